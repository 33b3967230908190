"""Smart plugs on 127.0.0.1: an HTTP server that speaks as Shelly Gen 2 does, and as REST relays."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cuckoo_zfsiscsi.config import PowerUrl


class Plug:
    """One device with outlets 0 to 3."""

    def __init__(self) -> None:
        self.outlets = dict.fromkeys(range(4), True)
        self.asked: list[str] = []
        self.status = 200
        self.delay = 0.0
        self.before: Callable[[], object] = lambda: None
        """What it does before it answers."""
        self._off = threading.Event()
        self.nonsense = False
        self.page: str | None = None
        """What a relay answers when it is asked for its state, instead of 0 or 1."""
        self.moved = False
        """It redirects whoever asks for a relay to a page that says 0."""
        self.password = ""
        self.effect: Callable[[int, bool], None] = lambda outlet, on: None
        self.port = 0

    def url(self, model: str = "shelly_gen2", user: str | None = None, **options: str) -> PowerUrl:
        """Return the power URL of an outlet, 1 unless told otherwise; programs may start slowly."""
        all_options = {"outlet": "1", "timeout": "99", **options}
        return PowerUrl(f"pdu+{model}", "127.0.0.1", user, self.port, all_options)

    def switch(self, outlet: int, on: bool) -> None:
        self.outlets[outlet] = on
        self.effect(outlet, on)

    @contextmanager
    def serving(self) -> Iterator[Plug]:
        """Switch the device itself on, for as long as the context lasts."""
        plug = self
        plug._off.clear()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/login":
                    self._answer("0")
                else:
                    self._answer(self._relay(None))

            def do_PUT(self) -> None:
                self._answer(self._relay(self._body() == b"1"))

            def do_POST(self) -> None:
                call = json.loads(self._body())
                outlet = int(call["params"]["id"])
                plug.asked.append(call["method"])
                if call["method"] == "Switch.Set" and plug.status == 200:
                    plug.switch(outlet, call["params"]["on"])
                output = "maybe" if plug.nonsense else plug.outlets[outlet]
                self._answer(json.dumps({"id": 1, "result": {"output": output}}))

            def _relay(self, on: bool | None) -> str:
                plug.asked.append(f"{self.command} {self.path}")
                outlet = int(self.path.split("/")[2])
                if on is not None:
                    plug.switch(outlet, on)
                state = "1" if plug.outlets[outlet] else "0"
                return state if plug.page is None else plug.page

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers["Content-Length"]))

            def _answer(self, text: str) -> None:
                plug._off.wait(plug.delay)
                plug.before()
                given = self.headers.get("Authorization", "")
                wanted = base64.b64encode(f"admin:{plug.password}".encode()).decode()
                refused = plug.password and given != f"Basic {wanted}"
                moved = plug.moved and self.path != "/login"
                self.send_response(401 if refused else 302 if moved else plug.status)
                if moved:
                    self.send_header("Location", "/login")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_args: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_args: Any) -> None:
                """Say nothing: a client that gave up is no news."""

        with Server(("127.0.0.1", self.port), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                plug._off.set()
                server.shutdown()
                thread.join()
