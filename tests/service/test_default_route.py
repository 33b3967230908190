"""What a guest is told, run for real in a network of its own; PowerShell is only read."""

from __future__ import annotations

import base64
import shlex
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import HostConfig, load
from cuckoo_zfsiscsi.config.default_route import DefaultRoute
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError
from cuckoo_zfsiscsi.service.default_route import DONE, by_agent, command
from tests.config.sample import EXAMPLE
from tests.readiness.peers import AGENTS, GUEST, Network, cape_agent, guest, says, silent
from tests.waiting import HANG

GATEWAY = IPv4Address("10.99.0.1")
SERVERS = (IPv4Address("10.99.0.3"), IPv4Address("9.9.9.9"))
BOTH = DefaultRoute(GATEWAY, SERVERS)
NONE = DefaultRoute(None, ())
OK = b"HTTP/1.0 200 OK\r\n\r\n"
WRITTEN = "nameserver 10.99.0.3\nnameserver 9.9.9.9\n"


def host(platform: str = "linux", **keys: object) -> HostConfig:
    config: HostConfig = load(EXAMPLE).hosts[0]
    return config.model_copy(update={"platform": platform, "ip": IPv4Address(GUEST), **keys})


@pytest.fixture
def network() -> Iterator[Network]:
    one = Network()
    yield one
    one.delete()


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Make the /etc of a guest; its resolv.conf is systemd-resolved's."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    return folder


def tell(network: Network, default_route: DefaultRoute) -> str:
    return network.run(lambda: by_agent(host(), default_route, Deadline(HANG)))


@pytest.mark.parametrize("program", AGENTS)
def test_linux(network: Network, etc: Path, program: Callable[[], Path]) -> None:
    with cape_agent(network, program(), etc):
        for _ in range(2):  # a second time, over a file and a route
            assert tell(network, BOTH) == ""
            assert network.routes() == [f"default via {GATEWAY} dev eth0"]
            assert not (etc / "resolv.conf").is_symlink()
            assert (etc / "resolv.conf").read_text() == WRITTEN
        other = IPv4Address("10.99.0.7")
        assert tell(network, DefaultRoute(other, ())) == ""
        assert network.routes() == [f"default via {other} dev eth0"]
        assert (etc / "resolv.conf").read_text() == WRITTEN
        assert tell(network, DefaultRoute(None, (GATEWAY,))) == ""
        assert network.routes() == [f"default via {other} dev eth0"]
        assert (etc / "resolv.conf").read_text() == f"nameserver {GATEWAY}\n"


@pytest.mark.parametrize("program", AGENTS)
def test_linux_refuses(network: Network, etc: Path, program: Callable[[], Path]) -> None:
    with cape_agent(network, program(), etc):
        warning = tell(network, DefaultRoute(IPv4Address("10.98.0.1"), SERVERS))
        assert warning.startswith("pc1 was not told gateway and name servers: it says 'Error: Nex")
        assert "(fix: run CAPE's agent as root, with the guest's own name in its" in warning
        assert (etc / "resolv.conf").is_symlink(), "went on after a failure"
        (etc / "resolv.conf").unlink()
        (etc / "resolv.conf").mkdir()
        assert "resolv.conf" in tell(network, BOTH)


@pytest.mark.cape
def test_a_guest_that_does_not_know_its_own_name(network: Network, etc: Path) -> None:
    (program,) = AGENTS[1].values
    with cape_agent(network, program(), etc, hosts="127.0.0.1 localhost\n"):  # type: ignore[operator]
        warning = tell(network, BOTH)
    assert "its agent: not HTTP: RemoteDisconnected (fix: " in warning
    assert "own name in its /etc/hosts" in warning


@pytest.mark.parametrize(
    ("platform", "answer", "wrong"),
    [
        ("linux", OK + b"no", "its agent: no JSON in its answer (fix: run CAPE's agent as root"),
        ("windows", OK + b"{}", "it says '' (fix: run CAPE's agent with the highest privileges"),
        ("windows", OK + b'{"stdout": "x\\u001b[2Jy", "stderr": "z"}', r"it says 'x\x1b[2Jy' ("),
        ("windows", OK + b'{"stdout": "", "stderr": "%s"}' % (b"z" * 999), f"'{'z' * 200}'"),
    ],
)
def test_liars(platform: str, answer: bytes, wrong: str) -> None:
    with guest(says(answer)) as port:
        one = host(platform, ip=IPv4Address("127.0.0.1"), agent_port=port)
        assert wrong in by_agent(one, BOTH, Deadline(HANG))


def test_time_is_bounded() -> None:
    with guest(silent) as port:
        one = host(ip=IPv4Address("127.0.0.1"), agent_port=port)
        assert "the guest's answer took longer than 0.5 s (fix: " in by_agent(
            one, BOTH, Deadline(0.5)
        )
    with guest(silent) as port:
        one = host(ip=IPv4Address("127.0.0.1"), agent_port=port)
        cancel = Cancel()
        threading.Timer(0.1, cancel.set, ("stop",)).start()
        with pytest.raises(CancelledError):
            by_agent(one, BOTH, Deadline(HANG, cancel))


def test_nothing_to_tell() -> None:
    """The agent is not asked: nobody is there."""
    for platform in ("linux", "windows"):
        assert command(platform, IPv4Address(GUEST), NONE) == []
        assert by_agent(host(platform, agent_port=1), NONE, Deadline(HANG)) == ""


def windows(default_route: DefaultRoute) -> list[str]:
    argv = command("windows", IPv4Address(GUEST), default_route)
    assert argv[:-1] == ["powershell", "-NoProfile", "-NonInteractive", "-EncodedCommand"]
    assert shlex.split(shlex.join(argv)) == argv
    assert len(shlex.join(argv)) < 8000, "longer than a command line of cmd"
    return base64.b64decode(argv[-1]).decode("utf-16-le").splitlines()


HEAD = [
    "$ErrorActionPreference = 'Stop'",
    'trap { Write-Output "$_"; exit 1 }',
    "$card = Get-WmiObject Win32_NetworkAdapterConfiguration -Filter 'IPEnabled=TRUE'"
    " | Where-Object { $_.IPAddress -contains '10.99.0.11' }",
    "if (-not $card) { throw 'no card has 10.99.0.11' }",
]
ROUTE = [
    "route add 0.0.0.0 mask 0.0.0.0 10.99.0.1 metric 1 if $card.InterfaceIndex | Out-Null",
    "$routes = Get-WmiObject Win32_IP4RouteTable -Filter \"Destination='0.0.0.0'\"",
    "if (-not ($routes | Where-Object { $_.NextHop -eq '10.99.0.1' }))"
    " { throw 'no route by 10.99.0.1' }",
]
DNS = [
    "$done = $card.SetDNSServerSearchOrder(@('10.99.0.3','9.9.9.9'))",
    'if ($done.ReturnValue -gt 1) { throw "name servers: error $($done.ReturnValue)" }',
]
TAIL = [f"Write-Output '{DONE}'"]


def test_windows() -> None:
    assert windows(BOTH) == [*HEAD, *ROUTE, *DNS, *TAIL]
    assert windows(DefaultRoute(GATEWAY, ())) == [*HEAD, *ROUTE, *TAIL]
    assert windows(DefaultRoute(None, SERVERS)) == [*HEAD, *DNS, *TAIL]
