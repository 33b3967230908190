"""What the guest's DHCP client calls, with a card and a /etc/resolv.conf of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.lab.guest_root import FILES
from cuckoo_zfsiscsi.lab.network import Namespace

NETWORK = "10.99.0.0/24"


@pytest.fixture
def guest(network_name: Callable[[], str]) -> Iterator[Namespace]:
    with Namespace(network_name()) as made:
        made.ip("link add eth0 type bridge", "addr add 10.99.0.11/24 dev eth0", "link set eth0 up")
        yield made


def call(guest: Namespace, resolv: Path, event: str, **told: str) -> None:
    resolv.touch()
    bind = 'mount --bind "$0" /etc/resolv.conf && exec busybox sh "$@"'
    argv = [*guest.prefix, "unshare", "--mount", "sh", "-c", bind, str(resolv)]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "interface": "eth0", **told}
    subprocess.run([*argv, str(FILES / "udhcpc"), event], env=env, check=True)


def routes(guest: Namespace) -> list[str]:
    return [" ".join(line.split()[:3]) for line in guest.run(["ip", "route"]).splitlines()]


def test_gateway_and_name_servers_alone(guest: Namespace, tmp_path: Path) -> None:
    resolv = tmp_path / "resolv.conf"
    call(guest, resolv, "deconfig")
    call(guest, resolv, "leasefail")
    assert routes(guest) == [f"{NETWORK} dev eth0"]
    told = {"ip": "10.99.0.77", "router": "10.99.0.2 10.99.0.3", "dns": "1.1.1.1 2.2.2.2"}
    for event in ("bound", "renew"):
        call(guest, resolv, event, **told)
        assert routes(guest) == ["default via 10.99.0.2", f"{NETWORK} dev eth0"]
        assert resolv.read_text() == "nameserver 1.1.1.1\nnameserver 2.2.2.2\n"
    call(guest, resolv, "deconfig")
    assert "10.99.0.11/24" in guest.run(["ip", "address"])
    assert "10.99.0.77" not in guest.run(["ip", "address"])


def test_not_told(guest: Namespace, tmp_path: Path) -> None:
    """What the agent has told stays."""
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 3.3.3.3\n")
    guest.ip("route add default via 10.99.0.2")
    call(guest, resolv, "bound", ip="10.99.0.11")
    assert "default via 10.99.0.2" in routes(guest)
    assert resolv.read_text() == "nameserver 3.3.3.3\n"
