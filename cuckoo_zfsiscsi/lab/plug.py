"""A smart plug in front of the emulated host, as Shelly's of the second generation.

Usage: python -m cuckoo_zfsiscsi.lab.plug FOLDER ADDRESS PORT, FOLDER being one in the host's state
directory. With mains back the host stays off, as its firmware is set; lab.wake wakes it. Faults are
asked for as in lab.chassis.
"""

from __future__ import annotations

import http.server
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.lab import chassis
from cuckoo_zfsiscsi.lab.machine import Machine


def has_mains(folder: Path) -> bool:
    """Return whether the outlet is on."""
    return not (folder / "no-mains").exists()


class Plug:
    """One outlet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._machine = Machine(folder.parent)

    def call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Do what one RPC asks for; return its result."""
        fault = chassis.fault_of(self._machine)
        was = has_mains(self._folder)
        if method == "Switch.Set":
            mark = self._folder / "no-mains"
            if parameters["on"]:
                mark.unlink(missing_ok=True)
            else:
                mark.touch()
                if fault != "stuck-on":
                    self._machine.off()
        return {"was_on": was, "output": has_mains(self._folder)}


def make_server(folder: Path, address: str, port: int) -> http.server.ThreadingHTTPServer:
    """Return the server, which answers POST /rpc."""
    plug = Plug(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            result = plug.call(call["method"], call["params"])
            answer = json.dumps({"id": call["id"], "result": result}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    return http.server.ThreadingHTTPServer((address, port), Handler)


def main(arguments: Sequence[str]) -> None:
    """Serve until killed."""
    folder, address, port = arguments
    make_server(Path(folder), address, int(port)).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
