"""A host that is played: a real listener that answers RPC's bind, and the service that boots it."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from typing import Any

from cuckoo_zfsiscsi.clock import SYSTEM, Clock, Thread
from tests.readiness.test_rpc import ACK


class Rpc(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        if self.request.recv(4096):
            self.request.sendall(ACK)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class Played:
    """Implements measure.recovery.Service: a host that boots in so many seconds.

    Args:
        boot_s: seconds from start() to RPC.
        prewarm: it boots again as soon as it is stopped.
        clock: that boots go by.
    """

    def __init__(
        self, boot_s: float = 0.5, *, prewarm: bool = False, clock: Clock = SYSTEM
    ) -> None:
        self.clock = clock
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.boot_s = boot_s
        self.prewarm = prewarm
        self.run = False
        self.task: str | None = None
        self.generation = 0
        self.calls: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.state = "clean"
        self._server: Server | None = None
        self._booting: Thread | None = None

    def host(self, label: str) -> dict[str, Any]:
        boot = {"started": time.time(), "generation": self.generation, "stages": self._stages()}
        return {
            "label": label, "run": self.run, "task": self.task, "state": self.state,
            "reason": "no DHCP", "last_boot": boot,
        }  # fmt: skip

    def start(
        self, label: str, timeout: float, task: str | None = None, image: str | None = None
    ) -> dict[str, Any]:
        self._call("start")
        self.run = True
        if self._booting:
            self._booting.join()
            self._booting = None
        elif not self._server:
            self.boot()
        return {"generation": self.generation, "stages": self._stages()}

    def stop(self, label: str, timeout: float) -> dict[str, Any]:
        self._call("stop")
        self.run = False
        self.cut()
        if self.prewarm:
            self.state = "booting"
            self._booting = self.clock.thread(self.boot, "boot")
            self._booting.start()
        return {}

    def boot(self) -> None:
        self.clock.sleep(self.boot_s)
        self.generation += 1
        self._server = Server(("127.0.0.1", self.port), Rpc)
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        self.state = "ready"

    def cut(self) -> None:
        if self._booting:
            self._booting.join()
            self._booting = None
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.state = "clean"

    def _stages(self) -> dict[str, float]:
        return {"fence": 0.1, "swap": 0.2, "dhcp": 0.1, "rpc": self.boot_s}

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise self.fails.pop(name)
