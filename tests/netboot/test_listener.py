from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

import httpx2
import pytest
import uvicorn

from cuckoo_zfsiscsi.errors import BootRefusedError, NetbootError
from cuckoo_zfsiscsi.netboot import clients as limits
from cuckoo_zfsiscsi.netboot import listener
from cuckoo_zfsiscsi.netboot.boots import Boots
from cuckoo_zfsiscsi.netboot.clients import Clients
from cuckoo_zfsiscsi.netboot.offences import LINES
from cuckoo_zfsiscsi.netboot.script import render_waits
from tests.netboot.conftest import MAC1, MAC2, MakeConfig
from tests.waiting import HANG, wait

FILES = {"ipxe.efi": b"MZ" + bytes(1_000_000), "sub/own.efi": b"MZ own"}


STRANGER = "127.0.0.3"
MAC3 = "52:54:00:99:00:03"


@pytest.fixture
def boots(make_config: MakeConfig) -> Boots:
    """Both hosts ask from one address, as all that is not about it; pc3 asks from another."""
    hosts = [host.model_copy(update={"ip": "127.0.0.1"}) for host in make_config().hosts]
    other = {"label": "pc3", "ip": "127.0.0.2", "mac": MAC3}
    return Boots([*hosts, hosts[0].model_copy(update=other)], lambda *_: None)


@pytest.fixture
def port(boots: Boots) -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        clients = Clients(boots.knows)
        config = uvicorn.Config(
            listener.create_app(boots, FILES, clients),
            log_config=None,
            **listener.server_options(boots, clients),
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        yield sock.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(port: int) -> Iterator[httpx2.Client]:
    with httpx2.Client(
        base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=HANG
    ) as client:
        yield client


def test_armed_host_gets_its_script(boots: Boots, client: httpx2.Client) -> None:
    boots.arm("pc1", "#!ipxe\n")
    answer = client.get("/boot.ipxe", params={"mac": MAC1.upper()})
    assert answer.status_code == 200
    assert answer.text == "#!ipxe\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers
    boots.disarm("pc1")
    assert client.get("/boot.ipxe", params={"mac": MAC1}).status_code == 404


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", f"/boot.ipxe?mac={MAC2}"),
        ("GET", "/boot.ipxe?mac=52:54:00:99:00:77"),
        ("GET", "/boot.ipxe?mac=nonsense%0d%0a"),
        ("GET", "/boot.ipxe"),
        ("GET", f"/boot.ipxe?mac={MAC1}&mac={MAC2}"),
        ("GET", f"/boot.ipxe/?mac={MAC1}"),
        ("GET", f"/x/../boot.ipxe%2f?mac={MAC1}"),
        ("POST", f"/boot.ipxe?mac={MAC1}"),
        ("HEAD", f"/boot.ipxe?mac={MAC1}"),
        ("POST", "/files/ipxe.efi"),
        ("GET", "/files/"),
        ("GET", "/files/other.efi"),
        ("GET", "/files/../listener.py"),
        ("GET", "/files//etc/passwd"),
        ("GET", "/"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/hosts"),
    ],
)
def test_all_else_is_the_same_404(
    boots: Boots, client: httpx2.Client, method: str, url: str
) -> None:
    boots.arm("pc1", "#!ipxe\n")
    answer = client.request(method, url)
    assert answer.status_code == 404
    assert answer.text == ("" if method == "HEAD" else "not found\n")
    assert set(answer.headers) == {"content-length", "content-type"}


def test_boot_files_for_hosts_alone(client: httpx2.Client, port: int) -> None:
    for name, content in FILES.items():
        assert client.get(f"/files/{name}").content == content
        head = client.head(f"/files/{name}")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(content))
    with socket.create_connection(("127.0.0.1", port), HANG, (STRANGER, 0)) as stranger:
        assert not heard(stranger)


def test_a_medium_for_the_host_that_installs(
    boots: Boots, client: httpx2.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wim = tmp_path / "boot.wim"
    wim.write_bytes(os.urandom(30_000_000))
    answer = client.get("/install/boot.wim", headers={"Connection": "close"})
    assert answer.status_code == 404
    monkeypatch.setattr(listener, "LIFETIME", 1.0)
    boots.arm("pc1", "#!ipxe\n", {"boot.wim": wim, "gone": tmp_path / "gone"})
    with client.stream("GET", "/install/boot.wim") as answer:
        assert answer.headers["content-length"] == "30000000"
        pieces = answer.iter_raw(1_000_000)
        got = next(pieces)
        time.sleep(1.5)  # a slow disk, a slow wire
        got += b"".join(pieces)
    assert got == wim.read_bytes()
    for name in ("", "gone", "other", "../boot.wim", "%2e%2e/boot.wim", "/boot.wim", "boot.wim/"):
        assert client.get(f"/install/{name}").status_code == 404
    assert client.post("/install/boot.wim").status_code == 404
    boots.disarm("pc1")
    assert client.get("/install/boot.wim").status_code == 404


def test_a_boot_file_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "one.efi").write_bytes(b"MZ")
    assert listener.read_files(tmp_path, ["one.efi"]) == {"one.efi": b"MZ"}
    with pytest.raises(NetbootError, match=r"two\.efi can't be read: No such file") as caught:
        listener.read_files(tmp_path, ["one.efi", "two.efi"])
    assert "apt install ipxe" in caught.value.fix


def test_two_hosts_ask_at_once(boots: Boots, client: httpx2.Client) -> None:
    boots.arm("pc1", "one")
    boots.arm("pc2", "two")
    answers: dict[str, set[str]] = {MAC1: set(), MAC2: set()}

    def ask(mac: str) -> None:
        for _ in range(20):
            answers[mac].add(client.get("/boot.ipxe", params={"mac": mac}).text)

    threads = [threading.Thread(target=ask, args=(mac,)) for mac in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {MAC1: {"one"}, MAC2: {"two"}}


def test_a_silent_connection_is_ended(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "LIFETIME", 0.2)
    with socket.create_connection(("127.0.0.1", port), HANG) as sock:
        sock.sendall(b"GET /boot.ipxe HTTP/1.1\r\nHost:")
        assert sock.recv(1) == b""


def test_one_address_does_not_get_all_connections(
    boots: Boots, client: httpx2.Client, port: int
) -> None:
    boots.arm("pc1", "one")
    held = [
        socket.create_connection(("127.0.0.1", port), HANG, source_address=("127.0.0.2", 0))
        for _ in range(20)
    ]
    try:
        assert client.get("/boot.ipxe", params={"mac": MAC1}).text == "one", "another address"
        wait(
            lambda: len(ended(held)) >= len(held) - limits.AT_ONCE,
            what="too many connections of one address are left",
            seen=lambda: len(ended(held)),
        )
        assert client.get("/boot.ipxe", params={"mac": MAC1}).text == "one"
        assert len(ended(held)) == len(held) - limits.AT_ONCE
    finally:
        for sock in held:
            sock.close()


def heard(sock: socket.socket) -> bytes:
    """Return what comes; nothing if the other end drops the connection."""
    with contextlib.suppress(ConnectionError):
        return sock.recv(100)
    return b""


def ended(connections: list[socket.socket]) -> list[socket.socket]:
    """Return those that the other end has closed."""
    return select.select(connections, [], [], 0)[0]


def test_a_flood_of_headers_is_refused(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), HANG) as sock:
        sock.sendall(b"GET /boot.ipxe HTTP/1.1\r\nX: " + b"a" * 20000)
        assert sock.recv(100).startswith(b"HTTP/1.1 400 ")


class Maker:
    """Makes the scripts of a host when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Future[str]] = []

    def ask(self, *, by_dhcp: bool = False) -> Future[str]:
        assert not by_dhcp
        self.asked.append(Future())
        return self.asked[-1]

    def when_asked(self, then: Callable[[Future[str]], object]) -> threading.Thread:
        """Do something to the first request."""

        def body() -> None:
            wait(lambda: self.asked, what="nobody asks for a script")
            time.sleep(2 * listener.STEP)
            then(self.asked[0])

        thread = threading.Thread(target=body)
        thread.start()
        return thread


@pytest.fixture
def maker(boots: Boots) -> Maker:
    maker = Maker()
    boots.make_when_asked("pc1", maker.ask)
    return maker


def test_a_script_that_is_made_is_waited_for(maker: Maker, client: httpx2.Client) -> None:
    thread = maker.when_asked(lambda ask: ask.set_result("#!ipxe\nsanboot"))
    assert client.get("/boot.ipxe", params={"mac": MAC1}).text == "#!ipxe\nsanboot"
    thread.join()
    error = BootRefusedError("it runs")
    maker.asked.clear()
    thread = maker.when_asked(lambda ask: ask.set_exception(error))
    assert client.get("/boot.ipxe", params={"mac": MAC1}).status_code == 404
    thread.join()


def test_who_can_t_wait_is_told_to_ask_again(
    maker: Maker, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is no boot, and the request has had none."""
    monkeypatch.setattr(listener, "HELD", 0)
    answer = client.get("/boot.ipxe", params={"mac": MAC1})
    assert answer.status_code == 200
    assert answer.text == render_waits()[0]
    assert maker.asked[0].cancelled(), "it could be given a script that nobody gets"


def test_a_crowd_is_told_to_ask_again(boots: Boots, maker: Maker, port: int) -> None:
    """A crowd is of hosts: what one asks at the same time delays no other the more."""
    boots.make_when_asked("pc3", maker.ask)

    def ask(mac: str, address: str) -> str:
        url = f"http://127.0.0.1:{port}/boot.ipxe"
        with httpx2.Client(
            transport=httpx2.HTTPTransport(local_address=address), timeout=HANG
        ) as guest:
            return str(guest.get(url, params={"mac": mac}).text)

    with ThreadPoolExecutor() as pool:
        mine = [pool.submit(ask, MAC1, "127.0.0.1") for _ in range(4)]
        wait(lambda: len(maker.asked) == len(mine), what="not all have asked")
        time.sleep(2 * listener.STEP)
        assert not any(one.done() for one in mine), "one host is no crowd"
        other = pool.submit(ask, MAC3, "127.0.0.2")
        told = as_completed([*mine, other])
        assert next(told).result() in render_waits()[:3]
        for asked in maker.asked:
            if asked.set_running_or_notify_cancel():
                asked.set_result("#!ipxe\nsanboot")
        assert all(one.result() in ("#!ipxe\nsanboot", *render_waits()) for one in told)
    assert any(asked.cancelled() for asked in maker.asked)


def test_a_stranger_is_dropped_unheard(port: int, caplog: pytest.LogCaptureFixture) -> None:
    for address, asked in ((STRANGER, "127.0.0.1"), (STRANGER, "127.0.0.1")):
        with socket.create_connection((asked, port), HANG, (address, 0)) as stranger:
            assert not heard(stranger)
    line = (
        f"no host of ours ({STRANGER}) connects to the boot listener at 127.0.0.1, and is dropped"
    )
    wait(lambda: caplog.text.count(line) == 2, seen=lambda: caplog.messages)


def test_who_asks_too_much_is_told_to_ask_again(
    boots: Boots, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """No firmware gives up: the answer is a script. Others have a share of their own."""
    boots.arm("pc1", "one")
    answers: list[str] = []
    url = f"http://127.0.0.1:{port}"
    while not answers or answers[-1] == "one":
        with httpx2.Client(base_url=url, trust_env=False, timeout=HANG) as fresh:
            asked = (fresh.get("/boot.ipxe", params={"mac": MAC1}) for _ in range(20))
            answers.extend(answer.text for answer in asked)
    assert answers.count("one") >= limits.REQUESTS[1]
    assert answers[-1] in render_waits()
    assert "pc2 (127.0.0.1) asks the boot listener too much" in caplog.text
    with httpx2.Client(base_url=url, trust_env=False, timeout=HANG) as fresh:
        while (file := fresh.get("/files/sub/own.efi")).status_code == 200:
            pass
    assert (file.status_code, file.text) == (429, "too many requests\n")
    assert file.headers["connection"] == "close"


def test_what_is_no_request_is_told_so_often(port: int, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", port), HANG) as sock:
            sock.sendall(b"\x16\x03\x01\n\n")
            assert heard(sock).startswith(b"HTTP/1.1 400 ")
    assert len(caplog.messages) == LINES
    assert "sends the boot listener what is no request" in caplog.text
