from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest
import uvicorn

from cuckoo_zfsiscsi.netboot import listener
from cuckoo_zfsiscsi.netboot.boots import Boots
from tests.netboot.conftest import MAC1, MAC2, MakeConfig


@pytest.fixture
def boots(make_config: MakeConfig) -> Boots:
    hosts = [host.model_copy(update={"ip": "127.0.0.1"}) for host in make_config().hosts]
    return Boots(hosts, lambda *_: None)


@pytest.fixture
def port(boots: Boots) -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        config = uvicorn.Config(
            listener.create_app(boots), log_config=None, **listener.server_options()
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        yield sock.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(port: int) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
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
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(b"GET /boot.ipxe HTTP/1.1\r\nHost:")
        before = time.monotonic()
        assert sock.recv(1) == b""
        assert time.monotonic() - before < 2


def test_one_address_does_not_get_all_connections(
    boots: Boots, client: httpx2.Client, port: int
) -> None:
    boots.arm("pc1", "one")
    held = [
        socket.create_connection(("127.0.0.1", port), 5, source_address=("127.0.0.2", 0))
        for _ in range(20)
    ]
    try:
        assert client.get("/boot.ipxe", params={"mac": MAC1}).text == "one", "another address"
        time.sleep(0.2)
        ended, _, _ = select.select(held, [], [], 0)
        assert len(ended) == len(held) - listener.PER_ADDRESS
    finally:
        for sock in held:
            sock.close()


def test_a_flood_of_headers_is_refused(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(b"GET /boot.ipxe HTTP/1.1\r\nX: " + b"a" * 20000)
        assert sock.recv(100).startswith(b"HTTP/1.1 400 ")
