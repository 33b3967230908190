"""The control port as it is served, with real connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from cuckoo_zfsiscsi.service.admission import server_options
from cuckoo_zfsiscsi.service.host import Host
from tests.service.dashboard.conftest import TOKEN, application
from tests.service.in_real_time import clock, host
from tests.service.one_host import OneHost
from tests.waiting import HANG, wait

__all__ = ["clock", "host"]  # fixtures

HOSTS = 300


@contextmanager
def served(one: OneHost) -> Iterator[int]:
    """Serve at a port of this machine, and give that."""
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:  # asyncio then sets TCP_NODELAY
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        options = server_options(None)
        server = uvicorn.Server(uvicorn.Config(application(one), log_config=None, **options))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        wait(lambda: server.started, what="uvicorn does not start")
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


def test_all_hosts_of_a_cape_at_once(host: Host, tmp_path: Path) -> None:
    """Each task of CAPE's asks over a connection of its own, all from one address."""
    request = f"GET /v1/hosts/pc1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    at_once, answers = threading.Barrier(HOSTS), []

    def ask(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), HANG) as connection:
            at_once.wait(HANG)
            connection.sendall(request.encode())
            answers.append(connection.recv(20))

    with served(OneHost(host, tmp_path)) as port:
        threads = [threading.Thread(target=ask, args=(port,)) for _ in range(HOSTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG)
    assert answers == HOSTS * [b"HTTP/1.1 200 OK\r\ndat"]


def test_more_than_a_page_over_one_connection(host: Host, tmp_path: Path) -> None:
    """Whoever has the token may send as much as it takes, over one connection."""
    request = f"GET /v1/hosts/pc1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    request += f"X-Long: {'x' * 1000}\r\n\r\n"
    with (
        served(OneHost(host, tmp_path)) as port,
        socket.create_connection(("127.0.0.1", port), HANG) as connection,
        connection.makefile("rb") as answers,
    ):
        for _ in range(80):
            connection.sendall(request.encode())
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            size = 0
            while (line := answers.readline()) != b"\r\n":
                name, _, value = line.partition(b": ")
                size = int(value) if name == b"content-length" else size
            assert len(answers.read(size)) == size


def test_a_header_that_is_too_long(host: Host, tmp_path: Path) -> None:
    """With the token or without it, nobody gets it read."""
    with served(OneHost(host, tmp_path)) as port:
        for token in (TOKEN, ""):
            with socket.create_connection(("127.0.0.1", port), HANG) as connection:
                head = f"GET /v1/hosts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
                connection.sendall(head.encode() + b"X-Long: " + b"x" * 20_000)
                assert connection.recv(20).startswith(b"HTTP/1.1 400")
