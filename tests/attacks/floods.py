"""Floods of the boot network by a guest, and how long a sibling waits for what it boots from."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cuckoo_zfsiscsi.lab.network import SERVER
from tests.faults import attacker
from tests.faults.farm import Farm
from tests.faults.patience import SERVICE
from tests.netboot.network import inside
from tests.waiting import HANG, wait

BOOT_FILE = "undionly.kpxe"
IPV4 = 0x0800
LISTENER = (str(SERVER.ip), 8471)
TFTP = (str(SERVER.ip), 69)
LATE = 15.0
"""Seconds by which a sibling may be late here. What is promised is 2; what is measured, with little
else on the machine, a tenth at most. Each of these attacks cost half a minute or more."""
RETRY = 1.0
"""Seconds after which a ROM repeats what was not answered."""


@contextmanager
def clean_farm(at: Path, hosts: int) -> Iterator[Farm]:
    """Have so many hosts under a service, all off and clean."""
    made = Farm(at, hosts, timeout=SERVICE)
    try:
        made.open()
        made.start()
        made.wait(lambda: set(made.states().values()) == {"clean"}, "the first disks")
        yield made
    finally:
        made.close()


def namespace(farm: Farm, number: int) -> Path:
    """Return the network namespace of a host's guest."""
    return Path(f"/run/netns/{farm.network.name}-{number}")


def datagrams(where: Path) -> socket.socket:
    """Return a UDP socket of a guest."""
    with inside(where):
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def read_request(name: str = BOOT_FILE) -> bytes:
    """Return a request for a file (RFC 1350, 5)."""
    return b"\0\1" + name.encode() + b"\0octet\0"


def ask_tftp(where: Path) -> socket.socket:
    """Ask for a boot file from a port of its own, and say no more."""
    guest = datagrams(where)
    with contextlib.suppress(OSError):
        guest.sendto(read_request(), TFTP)
    return guest


def fetch(where: Path) -> bytes:
    """Load the boot file by TFTP, as a ROM does; it repeats what is not answered."""
    got: list[bytes] = []
    end = time.monotonic() + HANG
    with datagrams(where) as guest:
        guest.settimeout(RETRY)
        say, to = read_request(), TFTP
        while True:
            guest.sendto(say, to)
            with contextlib.suppress(TimeoutError):
                packet, sender = guest.recvfrom(2000)
                block = int.from_bytes(packet[2:4], "big")
                assert packet[1] == 3, packet
                if block == len(got) + 1:
                    got.append(packet[4:])
                say, to = b"\0\4" + packet[2:4], sender
                if len(packet) < 516:
                    guest.sendto(say, to)
                    return b"".join(got)
            assert time.monotonic() < end, f"no boot file, {len(got)} blocks of it came"


def lease(where: Path, card: str) -> str:
    """Ask DHCP for an address, as a ROM does; return it."""
    own, number = bytes.fromhex(card.replace(":", "")), os.urandom(4)
    with inside(where):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(IPV4))
    end = again = time.monotonic()
    end += HANG
    with wire:
        wire.bind(("eth0", IPV4))
        while (now := time.monotonic()) < end:
            if now >= again:
                wire.send(attacker.dhcp(own, own, number, b"\x35\1\1"))
                again = now + RETRY
            wire.settimeout(RETRY)
            with contextlib.suppress(TimeoutError):
                frame = wire.recv(2048)
                if frame[34:38] == b"\0\x43\0\x44" and frame[46:50] == number:
                    return socket.inet_ntoa(frame[58:62])
    raise AssertionError("no address")


def measured(act: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    begin = time.monotonic()
    act()
    return time.monotonic() - begin


@contextmanager
def flood(act: Callable[[], object], pause: float = 0.0) -> Iterator[Callable[[], int]]:
    """Do something again and again, meanwhile; give how often it was done.

    It is under way as the context begins.
    """
    over, times = threading.Event(), 0

    def body() -> None:
        nonlocal times
        while not over.is_set():
            with contextlib.suppress(OSError):
                act()
            times += 1
            over.wait(pause)

    thread = threading.Thread(target=body)
    thread.start()
    try:
        wait(lambda: times > 10, what="the flood does not begin")
        yield lambda: times
    finally:
        over.set()
        thread.join()


def start_sibling(farm: Farm) -> float:
    """Return the seconds in which pc2 is started; it is stopped again."""
    seconds = measured(lambda: farm.client.start("pc2", HANG))
    farm.client.stop("pc2", HANG)
    farm.wait(lambda: farm.states()["pc2"] == "clean", "the sibling's reset")
    return seconds
