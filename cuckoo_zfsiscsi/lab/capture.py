"""What a booting host said and heard, from a capture of its wire (tcpdump's file, pcap(5))."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.command import HANG

LENGTH = 700
"""Bytes kept of each packet: more than DHCP needs."""
DHCP = ("", "discover", "offer", "request", "decline", "ack", "nak", "release", "inform")
"""By message type (RFC 2132, 9.6)."""
SCRIPT = b"GET /boot.ipxe"
BY_TFTP = b"\0\1boot.ipxe\0"
"""The paper's way to ask for the script (RFC 1350)."""
LOGIN = range(3260, 3516)
"""TCP ports: each host of the lab has its own. That of 10.99.0.11 is 3271."""
LOGINS = f"tcp portrange {LOGIN[0]}-{LOGIN[-1]}"
"""As tcpdump has it."""
LOGIN_REQUEST = 3
"""Opcode of iSCSI (RFC 7143, 11.12)."""


@dataclass(frozen=True)
class Event:
    """One packet that matters."""

    at: float
    """Seconds since the epoch."""
    what: str
    """A DHCP message; tftp, script, login: the host asks for a file, its script, its disk."""
    ipxe: bool = False
    """A DHCP message that says that iPXE sent it."""


class Capture:
    """Captures the traffic of one host while `with` lasts.

    Args:
        network: of the lab.
        file: where to; written by root's tcpdump.
        number: of the host.
    """

    def __init__(self, network: net.Network, file: Path, *, number: int = 1) -> None:
        self._file = file
        self._said: list[str] = []
        source = f"ether src {net.mac(number)} and tcp"
        login = f"{LOGINS} and tcp[((tcp[12] & 0xf0) >> 2)] & 0x3f = {LOGIN_REQUEST}"
        mine = f"udp port 67 or udp port 69 or ({source} and (not {LOGINS} or ({login})))"
        self._daemon = Daemon(
            [*network.prefix, "tcpdump", "--immediate-mode", "-U", "-n", "-Z", "root",
             "-s", str(LENGTH), "-i", net.tap(number), "-w", str(file), mine],
            file.with_suffix(".pid"),
            name="tcpdump",
            on_line=self._said.append,
            error=LabError,
            install="apt install tcpdump",
        )  # fmt: skip

    def __enter__(self) -> Capture:
        self._daemon.start(Deadline(HANG), lambda: "listening on" in " ".join(self._said))
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        self._daemon.stop(Deadline(5.0))

    def events(self) -> list[Event]:
        """Return what was seen until now."""
        return list(read(self._file.read_bytes()))


def read(content: bytes) -> Iterator[Event]:
    """Read a capture of Ethernet frames; the last packet may be cut off."""
    at = 24
    while at + 16 <= len(content):
        seconds, micro, kept, _ = struct.unpack_from("<IIII", content, at)
        frame = content[at + 16 : at + 16 + kept]
        at += 16 + kept
        event = _read_frame(seconds + micro / 1e6, frame)
        if event:
            yield event


def _read_frame(at: float, frame: bytes) -> Event | None:
    if frame[12:15] != b"\x08\x00\x45" or len(frame) < 42:  # IPv4 without options
        return None
    port = int.from_bytes(frame[36:38], "big")
    if frame[23] == 17:  # UDP
        if port in (67, 68):
            return _read_dhcp(at, frame[42:])
        if port == 69:
            return Event(at, "script" if frame[42:].startswith(BY_TFTP) else "tftp")
        return None
    said = frame[34 + (frame[46] >> 4) * 4 :] if frame[23] == 6 and len(frame) > 54 else b""
    if said.startswith(SCRIPT):
        return Event(at, "script")
    if port in LOGIN and said and said[0] & 0x3F == LOGIN_REQUEST:
        return Event(at, "login")
    return None


def _read_dhcp(at: float, packet: bytes) -> Event | None:
    options: dict[int, bytes] = {}
    rest = packet[240:]
    while len(rest) > 1 and rest[0] != 255:
        length = 0 if rest[0] == 0 else rest[1] + 1
        options.setdefault(rest[0], rest[2 : 1 + length])
        rest = rest[1 + length :]
    kind = (options.get(53) or b"\0")[0]
    return Event(at, DHCP[kind], 77 in options) if 0 < kind < len(DHCP) else None


@dataclass(frozen=True)
class Times:
    """Of one boot, seconds."""

    dhcp: float
    """From power-on to the first DHCP message: the firmware's own time."""
    script: float
    """From power-on to the request for the boot script."""
    login: float
    """From power-on to the first iSCSI login; 0 if there was none."""
    offer_wait: float
    """The longest time from an offer to iPXE's request for it: it waits 3 s for a proxy DHCP server
    if it is not told that there is none. What firmware collects offers for is its own affair."""
    script_wait: float
    """From iPXE's address to its request for the script: it waits 13 s for an IPv6 router
    advertisement if there is none."""


def times(events: list[Event], powered_on: float) -> Times:
    """Return how long what took.

    Raises:
        LabError: the host did not come to its boot script.
    """
    events = [event for event in events if event.at >= powered_on]
    script = next((event.at for event in events if event.what == "script"), None)
    if script is None:
        raise LabError("the capture has no request for a boot script")
    before = [event for event in events if event.at <= script]
    login = next((event.at for event in events if event.what == "login"), powered_on)
    waits = []
    offered: float | None = None
    for event in before:
        if event.what == "offer" and offered is None:
            offered = event.at
        elif event.what == "request" and offered is not None:
            if event.ipxe:
                waits.append(event.at - offered)
            offered = None
    acked = max((event.at for event in before if event.what == "ack"), default=script)
    first = next((event.at for event in before if event.what == "discover"), script)
    return Times(
        first - powered_on,
        script - powered_on,
        login - powered_on,
        max(waits, default=0.0),
        script - acked,
    )
