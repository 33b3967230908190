"""Makes QEMU's network card boot in two stages, as a physical one with a plain PXE ROM does.

    python -m cuckoo_zfsiscsi.lab.plain_rom FOLDER

The ROM of QEMU's cards is iPXE itself and says so in its DHCP requests, so that it would be given
the boot script at once. What the host sends passes here, by QEMU's filter-redirector and the two
sockets in FOLDER; in the ROM's requests the marks of iPXE are blanked. Whose turn is it? The ROM's,
until it asks for a boot file by TFTP; then iPXE's, until it opens a connection.
"""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path

OUT, IN = "rom-out", "rom-in"
"""The sockets: what the host sends arrives at one, and goes back to QEMU through the other."""
IPXE_MARKS = (77, 175)
"""DHCP options: user class (RFC 3004) and iPXE's own (https://ipxe.org/howto/dhcpd)."""
OPTIONS = 8 + 240
"""Where the options begin, after the beginning of the UDP header (RFC 2131)."""
VNET_HEADERS = (0, 10, 12)
"""Bytes that virtio-net may put before a frame."""
UDP, TCP, SYN, ACK = 17, 6, 0x02, 0x10


class Turn:
    """Whose turn it is, and what the network gets to see of a frame."""

    def __init__(self) -> None:
        self.rom = True

    def show(self, frame: bytearray) -> None:
        """Look at a frame of the host; change it where the ROM says that it is iPXE."""
        for before in VNET_HEADERS:
            if frame[before + 12 : before + 15] == b"\x08\x00\x45":  # IPv4 without options
                self._show_packet(frame, before + 14)
                return

    def _show_packet(self, frame: bytearray, ip: int) -> None:
        l4 = ip + 20
        if len(frame) < l4 + 14:
            return
        protocol, port = frame[ip + 9], int.from_bytes(frame[l4 + 2 : l4 + 4], "big")
        if protocol == UDP and port == 67 and self.rom:
            _blank(frame, l4 + OPTIONS)
            frame[l4 + 6 : l4 + 8] = b"\0\0"  # no checksum
        elif protocol == UDP and port == 69:
            self.rom = False
        elif protocol == TCP and frame[l4 + 13] & (SYN | ACK) == SYN:
            self.rom = True


def _blank(frame: bytearray, at: int) -> None:
    """Overwrite iPXE's options with padding."""
    while at + 1 < len(frame) and frame[at] != 255:
        if frame[at] == 0:
            at += 1
            continue
        end = at + 2 + frame[at + 1]
        if frame[at] in IPXE_MARKS and end <= len(frame):
            frame[at:end] = bytes(end - at)
        at = end


def relay(out: socket.socket, back: socket.socket) -> None:
    """Pass on frames, each behind its length, until QEMU ends."""
    turn = Turn()
    with out.makefile("rb") as frames:
        while len(head := frames.read(4)) == 4:
            frame = bytearray(frames.read(struct.unpack("!I", head)[0]))
            turn.show(frame)
            back.sendall(head + frame)


def listen(path: Path) -> socket.socket:
    """Listen at a socket; what is there is from an earlier life."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    return listener


def main(folder: Path) -> None:
    """Serve one power-on after the other."""
    outs, backs = listen(folder / OUT), listen(folder / IN)
    while True:
        with outs.accept()[0] as out, backs.accept()[0] as back:
            try:
                relay(out, back)
            except OSError as error:
                sys.stderr.write(f"{error}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
