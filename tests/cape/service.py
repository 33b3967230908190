"""Plays the service's control API over real HTTP, well or badly."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.waiting import HANG

TOKEN = "the-token-that-nobody-may-see"

Json = dict[str, Any]
Act = Callable[["Handler"], None]


def host(label: str, **changes: object) -> Json:
    return {
        "label": label, "state": "clean", "since": 1.0, "reason": "", "image": "win10@3",
        "generation": 7, "run": False, "last_boot": None, **changes,
    }  # fmt: skip


REPORT: Json = {
    "host": "pc1", "generation": 7, "image": "win10@3", "started": 1.0, "recovery_s": 17.5,
    "prewarmed": False, "stages": {"fence": 0.1, "power": 0.2, "rpc": 17.1, "agent": 17.4},
}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.serve()

    def do_POST(self) -> None:
        self.serve()

    def serve(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        verb = self.path.split("/")[4] if self.path.count("/") == 4 else self.path
        self.server.calls.append((self.command, self.path, body))
        self.server.headers.append(dict(self.headers))
        if verb in self.server.acts:
            self.server.acts[verb](self)
        elif self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
            self.problem(401, "unauthorized", "the bearer token is missing or wrong")
        elif self.path == "/v1/hosts":
            self.reply(200, list(self.server.hosts.values()))
        elif self.path == "/v1/cape":
            self.reply(200, self.server.view)
        elif self.path.split("/")[3] not in self.server.hosts:
            self.problem(404, "unknown host", "no host pc9 is configured", "zfsiscsi hosts")
        elif verb == "start":
            self.reply(200, REPORT)
        elif verb == "stop":
            stopped = self.server.hosts[self.path.split("/")[3]]
            stopped.update(run=False)
            self.reply(200, stopped)
        elif verb == "power":
            self.reply(200, {"host": "pc1", "power": "off"})
        else:
            self.reply(200, self.server.hosts[self.path.split("/")[3]])

    def reply(self, status: int, body: object, kind: str = "application/json") -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def problem(self, status: int, title: str, detail: str, fix: str = "") -> None:
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail,
                "fix": fix, "host": "pc1"}  # fmt: skip
        self.reply(status, body, "application/problem+json")

    def log_message(self, *args: object) -> None:
        pass

    def address_string(self) -> str:
        return ""


class Service(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    url = ""

    def prepare(self) -> None:
        self.calls: list[tuple[str, str, Json | None]] = []
        self.headers: list[dict[str, str]] = []
        self.hosts = {label: host(label) for label in ("pc1", "pc2")}
        self.view: Json = {"interface": "br-lab", "hosts": [{"label": "pc1"}, {"label": "pc2"}]}
        self.acts: dict[str, Act] = {}
        self.token: str | None = TOKEN
        self.stopped = threading.Event()

    def asked(self, verb: str) -> list[Json | None]:
        return [body for _, path, body in self.calls if path.endswith(f"/{verb}")]

    def handle_error(self, *_: object) -> None:
        """Clients that go away are part of the play."""


class UnixService(Service):
    address_family = socket.AF_UNIX


@contextmanager
def serve(path: Path | None = None) -> Iterator[Service]:
    if path is None:
        service = Service(("127.0.0.1", 0), Handler)
        service.url = f"http://127.0.0.1:{service.server_address[1]}"
    else:
        service = UnixService(str(path), Handler)  # type: ignore[arg-type]
        service.url = f"unix://{path}"
    service.prepare()
    thread = threading.Thread(target=service.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield service
    finally:
        service.stopped.set()
        service.shutdown()
        service.server_close()
        thread.join()
        if path:
            path.unlink()


def hang(handler: Handler) -> None:
    """Say nothing until the test is over."""
    handler.server.stopped.wait(HANG)


def slowly(seconds: float) -> Act:
    def act(handler: Handler) -> None:
        time.sleep(seconds)
        handler.reply(200, REPORT)

    return act


def drop(handler: Handler) -> None:
    """Close the connection before the answer."""
    handler.connection.shutdown(socket.SHUT_RDWR)


def drop_in_the_middle(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"half":')
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


def hang_in_the_middle(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"half":')
    handler.wfile.flush()
    handler.server.stopped.wait(HANG)


def drip(handler: Handler) -> None:
    """Send a byte now and then, for ever: no read timeout ends that."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.stopped.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def answer(status: int, body: object) -> Act:
    return lambda handler: handler.reply(status, body)


def refuse(status: int, title: str, detail: str, fix: str = "") -> Act:
    return lambda handler: handler.problem(status, title, detail, fix)
