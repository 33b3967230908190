from __future__ import annotations

import http.server
import json
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, LabError
from cuckoo_zfsiscsi.lab.network import Network
from cuckoo_zfsiscsi.lab.watch import Watch, inside
from tests.waiting import HANG

ADDRESS = "10.99.0.1"
NDR = bytes.fromhex("045d888aeb1cc9119fe808002b10486002000000")
# bind_ack of C706 12.6.4.4: secondary address "135", one context accepted
BODY = struct.pack("<HHIH4s2xB3xHH", 4280, 4280, 1, 4, b"135\0", 1, 0, 0) + NDR
BIND_ACK = struct.pack("<BBBBIHHI", 5, 0, 12, 3, 0x10, 16 + len(BODY), 0, 1) + BODY


class Rpc(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        if self.request.recv(4096):
            self.request.sendall(BIND_ACK)


class Agent(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"message": "CAPE Agent!", "version": "1"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None: ...


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def serving(network: Network, port: int, handler: type) -> Iterator[None]:
    server = inside(network, lambda: Server((ADDRESS, port), handler))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_up_and_down_and_up(network: Network) -> None:
    with Watch(network, ADDRESS) as watch:
        with serving(network, 135, Rpc):
            first = watch.up(Deadline(HANG))
        down = watch.down(Deadline(HANG))
        assert down > first
        time.sleep(0.5)
        began = time.monotonic()
        with serving(network, 135, Rpc):
            up = watch.up(Deadline(HANG), after=down)
        assert up - down >= 0.4
        assert up >= began
        assert [state for _, state in watch.changes()][-3:] == [True, False, True]


def test_what_was_before_does_not_count(network: Network) -> None:
    with serving(network, 135, Rpc), Watch(network, ADDRESS) as watch:
        moment = watch.up(Deadline(HANG))
        assert watch.up(Deadline(HANG)) == moment
        with pytest.raises(DeadlineExceededError, match="up"):
            watch.up(Deadline(0.3), after=moment)
        with pytest.raises(DeadlineExceededError, match="down"):
            watch.down(Deadline(0.3))


def test_the_agent(network: Network) -> None:
    watch = Watch(network, ADDRESS)
    assert not watch.agent().ok
    with serving(network, 8000, Agent):
        assert watch.agent().ok


def test_only_its_thread_is_inside(network: Network) -> None:
    names = inside(network, lambda: [name for _, name in socket.if_nameindex()])
    assert "boot0" in names
    assert "boot0" not in [name for _, name in socket.if_nameindex()]


def test_errors_come_out(network: Network, network_name: Callable[[], str]) -> None:
    def fail() -> None:
        raise ValueError("from inside")

    with pytest.raises(ValueError, match="from inside"):
        inside(network, fail)
    with pytest.raises(LabError, match="No such file"):
        inside(Network(network_name()), fail)


def test_not_a_namespace(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuckoo_zfsiscsi.lab.watch.CLONE_NEWNET", -1)
    with pytest.raises(LabError, match="Invalid argument"):
        inside(network, lambda: None)
