"""A guest played by a small program: boots in a blink, and does to its disk what it is told.

It is what the emulated machine starts instead of QEMU: asks for its address, which it has, and for
its boot script as iPXE does, logs in with the credentials in it (libiscsi), answers a DCE/RPC bind
on 135 and CAPE's agent's GET / on 8000. `POST /infect` writes over the boot sector and tells with
what; `GET /sector` tells what is in it, `GET /disk` what is in all of the disk, `GET /ibft` the
boot script. `POST /execute` runs a program in its network, which sees an empty /etc of its own.
After `GET /pinning` it hangs up on whoever has another address, as CAPE's agent does.

    guest.py --pidfile FILE --script URL [--only rpc|agent|none] [--no-login] [--after SECONDS]
             [--no-dhcp] [--busy] [--post SECONDS --sign FILE]
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import hashlib
import http.server
import json
import os
import re
import socket
import struct
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECTOR = 512
CHUNK = 256
"""Sectors that are read at once."""
SIOCGIFADDR = 0x8915
IPV4, ACK = 0x0800, b"\x35\1\5"
AGAIN = 1.0
"""Seconds after which an address is asked for again."""
HANG = 120
"""Seconds for one answer of the server's. As in tests/waiting.py; nothing is imported here but
Python's own, as this is started at each boot."""
NDR = bytes.fromhex("045d888aeb1cc9119fe808002b10486002000000")


class Disk:
    """An iSCSI session over libiscsi, closed by the end of the process alone."""

    def __init__(
        self, portal: str, target: str, lun: int, initiator: str, user: str, secret: str
    ) -> None:
        lib = self._lib = ctypes.CDLL("libiscsi.so.7")
        lib.iscsi_create_context.restype = ctypes.c_void_p
        lib.iscsi_get_error.restype = ctypes.c_char_p
        for name in ("iscsi_read16_sync", "iscsi_write16_sync", "iscsi_readcapacity16_sync"):
            getattr(lib, name).restype = ctypes.c_void_p
        self._lun = lun
        self._context = ctypes.c_void_p(lib.iscsi_create_context(initiator.encode()))
        lib.iscsi_set_targetname(self._context, target.encode())
        lib.iscsi_set_session_type(self._context, 2)
        lib.iscsi_set_initiator_username_pwd(self._context, user.encode(), secret.encode())
        lib.iscsi_set_noautoreconnect(self._context, 1)
        lib.iscsi_set_timeout(self._context, HANG)
        if lib.iscsi_full_connect_sync(self._context, portal.encode(), lun):
            raise ConnectionError(lib.iscsi_get_error(self._context).decode())
        self._lock = threading.Lock()

    def read(self, lba: int = 0, count: int = 1) -> bytes:
        """Return sectors; the boot sector by default."""
        size = count * SECTOR
        where = ctypes.c_uint64(lba)
        return self._data(self._done("read16", where, size, SECTOR, 0, 0, 0, 0, 0), size)

    def read_all(self) -> Iterator[bytes]:
        """Give the whole disk, piece by piece."""
        answer = self._data(self._done("readcapacity16"), 8)
        sectors = int.from_bytes(answer, "big") + 1
        for lba in range(0, sectors, CHUNK):
            yield self.read(lba, min(CHUNK, sectors - lba))

    def write(self, data: bytes) -> None:
        """Write the boot sector."""
        self._done("write16", ctypes.c_uint64(0), data, len(data), SECTOR, 0, 0, 0, 0, 0)

    def _data(self, task: int, size: int) -> bytes:
        try:
            data = ctypes.cast(task + 72, ctypes.POINTER(ctypes.c_void_p))[0]
            return ctypes.string_at(data, size)
        finally:
            self._lib.scsi_free_scsi_task(ctypes.c_void_p(task))

    def _done(self, verb: str, *what: object) -> int:
        with self._lock:
            call = getattr(self._lib, f"iscsi_{verb}_sync")
            task: int | None = call(self._context, self._lun, *what)
        # The first member of the task is its SCSI status, the tenth pointer-sized one its data.
        if not task or ctypes.cast(task, ctypes.POINTER(ctypes.c_int))[0]:
            raise OSError(f"the {verb} failed")
        return task


def log_in(script: str) -> Disk:
    """Do what the boot script says."""

    def one(pattern: str) -> str:
        found = re.search(pattern, script, re.MULTILINE)
        assert found, f"no {pattern} in the boot script"
        return found[1]

    portal, port, lun, target = re.findall(
        r"^sanboot .*iscsi:([^:]+)::(\d+):([0-9a-f]+):(\S+)", script, re.MULTILINE
    )[0]
    return Disk(
        f"{portal}:{port}",
        target,
        int(lun, 16),
        one(r"^set initiator-iqn (\S+)"),
        one(r"^set username (\S+)"),
        one(r"^set password (\S+)"),
    )


def be_busy(disk: Disk) -> None:
    """Read again and again, as any system does."""
    while True:
        disk.read()
        time.sleep(0.5)


def power_on_self_test(seconds: float, sign: Path) -> None:
    """Do what firmware does before it has a network: its card is down, as while it is off."""

    def link(state: str) -> None:
        os.spawnlp(os.P_WAIT, "ip", "ip", "link", "set", "eth0", state)  # noqa: S606

    link("down")
    sign.touch()
    time.sleep(seconds)
    link("up")


def ask_dhcp(card: str = "eth0") -> None:
    """Ask for the address that it has until that is acknowledged (RFC 2131, 4.3.2), as iPXE."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(IPV4)) as wire:
        wire.bind((card, IPV4))
        wire.settimeout(AGAIN)
        mac, number = wire.getsockname()[4], os.urandom(4)
        packed = fcntl.ioctl(wire, SIOCGIFADDR, struct.pack("256s", card.encode()))[20:24]
        head = struct.pack("!BBBB4sHH16s16s192x", 1, 1, 6, 0, number, 0, 0x8000, b"", mac)
        options = b"\x63\x82\x53\x63\x35\1\3\x32\4" + packed + b"\x4d\4iPXE\xaf\0\xff"
        message = (head + options).ljust(300, b"\0")
        datagram = struct.pack("!HHHH", 68, 67, 8 + len(message), 0) + message
        ends = bytes(4) + 4 * b"\xff"
        packet = struct.pack("!HHHHBBH", 0x4500, 20 + len(datagram), 0, 0, 64, 17, 0) + ends
        total = sum(struct.unpack("!10H", packet))
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        packet = packet[:10] + struct.pack("!H", checksum) + packet[12:]
        while True:
            try:
                wire.send(6 * b"\xff" + mac + struct.pack("!H", IPV4) + packet + datagram)
            except OSError:  # its cable is out
                time.sleep(AGAIN / 10)
                continue
            end = time.monotonic() + AGAIN
            while time.monotonic() < end:
                try:
                    frame = wire.recv(2048)
                except OSError:
                    break
                if frame[34:38] == b"\0\x43\0\x44" and frame[46:50] == number and ACK in frame:
                    return


def answer_rpc() -> None:
    """Accept every bind on TCP 135."""
    results = struct.pack("<BxxxHH", 1, 0, 0) + NDR
    body = struct.pack("<HHIH4sxx", 4280, 4280, 1, 4, b"135\0") + results
    ack = struct.pack("<BBBBIHHI", 5, 0, 12, 3, 0x10, 16 + len(body), 0, 1) + body
    server = socket.create_server(("", 135), backlog=16)
    while True:
        peer, _ = server.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(ack)


class Agent(http.server.BaseHTTPRequestHandler):
    disk: Disk | None = None
    script = ""
    pinned = ""

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        peer = self.client_address[0]
        if Agent.pinned not in ("", peer):
            return
        if self.path == "/pinning":
            Agent.pinned = peer
        if self.path == "/sector" and self.disk:
            self._send({"sha256": hashlib.sha256(self.disk.read()).hexdigest()})
        elif self.path == "/disk" and self.disk:
            found = hashlib.sha256()
            for piece in self.disk.read_all():
                found.update(piece)
            self._send({"sha256": found.hexdigest()})
        elif self.path == "/ibft":
            self._send({"script": self.script})
        else:
            self._send({"message": "CAPE Agent!", "version": "0.1"})

    def do_POST(self) -> None:
        if self.path == "/execute":
            self._send(execute(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            return
        assert self.disk
        sector = os.urandom(SECTOR)
        self.disk.write(sector)
        self._send({"message": "infected", "sector": sector.hex()})

    def _send(self, answer: dict[str, str]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def execute(form: str) -> dict[str, str]:
    import shlex  # only for those who need them: this program is started at each boot
    import subprocess
    from urllib.parse import parse_qs

    argv = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /etc && exec "$@"', "sh"]
    argv += shlex.split(parse_qs(form)["command"][0])
    done = subprocess.run(argv, capture_output=True, text=True)
    return {"stdout": done.stdout, "stderr": done.stderr}


def forget_neighbours() -> None:
    """As a machine that boots: it asks for the server's MAC address, which hears of its own so."""
    flush = os.posix_spawnp("ip", ["ip", "neigh", "flush", "dev", "eth0"], os.environ)
    os.waitpid(flush, 0)


def daemonize(pidfile: Path) -> None:
    """As QEMU does: the parent ends when the child lives."""
    if os.fork():
        os._exit(0)
    os.setsid()
    pidfile.write_text(f"{os.getpid()}\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pidfile", type=Path, required=True)
    parser.add_argument("--script", required=True)
    parser.add_argument("--no-dhcp", action="store_true")
    parser.add_argument("--busy", action="store_true", help="read the disk all the time")
    parser.add_argument("--post", type=float, default=0.0, help="seconds without a network")
    parser.add_argument("--sign", type=Path, help="file that is made when they begin")
    parser.add_argument("--only", choices=["rpc", "agent", "none"])
    parser.add_argument("--no-login", action="store_true")
    parser.add_argument("--after", type=float, default=0.0, help="seconds from script to login")
    options = parser.parse_args()
    daemonize(options.pidfile)
    forget_neighbours()
    if options.post:
        power_on_self_test(options.post, options.sign)
    if not (options.no_login or options.no_dhcp):
        ask_dhcp()
    script = ""
    while not options.no_login and Agent.disk is None:
        try:
            if not script:  # iPXE's own tries again by itself: it does not ask for another
                with urllib.request.urlopen(options.script, timeout=HANG) as answer:
                    script = answer.read().decode()
            if "sanboot" not in script:  # its disk is not ready yet: it is told to ask again
                script = ""
                time.sleep(1)
                continue
            time.sleep(options.after)
            Agent.disk, Agent.script = log_in(script), script
        except OSError as error:
            sys.stderr.write(f"{error}\n")
            if "chain" in script:  # it is good for one boot
                script = ""
            time.sleep(0.1)
    if options.busy and Agent.disk:
        threading.Thread(target=be_busy, args=[Agent.disk], daemon=True).start()
    if options.only in (None, "rpc"):
        threading.Thread(target=answer_rpc, daemon=True).start()
    if options.only in (None, "agent"):
        http.server.ThreadingHTTPServer(("", 8000), Agent).serve_forever()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
