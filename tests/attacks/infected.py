"""Malware on a host, as root in a kernel of its own: what it knows, and what it holds.

It lives in the network namespace of its host's guest. What it does to its card it does in a second
namespace, of nobody else's: all of it is gone when the process has ended, as with the power of a
host.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import re
import select
import socket
import subprocess
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cuckoo_zfsiscsi.disk.target import Credentials, Export
from tests.attacks import frames
from tests.attacks.pdus import Sender
from tests.netboot.network import inside

CARD = "eth0"
BRIEF = 0.4
"""Seconds that malware waits for an answer: what is not answered by then is no use to it."""
HELD = 200
"""Sockets that it keeps open, at most."""
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Peer:
    """A host, as everybody on its wire knows it."""

    label: str
    ip: str
    mac: str

    @property
    def hardware(self) -> bytes:
        """Its MAC address, as it is in a frame."""
        return frames.hardware(self.mac)


@dataclass(frozen=True)
class Knowledge:
    """What malware may know: the project is open source, and a lab's names are easily guessed."""

    own: Peer
    siblings: tuple[Peer, ...]
    server: str
    """The server's address, for DHCP, TFTP, scripts and disks."""
    control: str
    """Address of the control API."""
    bmcs: tuple[str, ...]
    iqn: str
    boot_port: int = 8471
    portal_port: int = 3260
    """From which those of the hosts' disks are counted."""
    control_port: int = 8470

    def disk_port(self, host: Peer) -> int:
        """Return the TCP port of a host's disk."""
        return self.portal_port + int(host.ip.rpartition(".")[2])

    def dump(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Knowledge:
        """Return what dump() has made."""
        found = json.loads(text)
        own, siblings = Peer(**found.pop("own")), [Peer(**one) for one in found.pop("siblings")]
        return cls(own=own, siblings=tuple(siblings), **{**found, "bmcs": tuple(found["bmcs"])})


class Infected:
    """One piece of malware. It must be called in its guest's network namespace.

    Args:
        knows: all that it knows.
    """

    def __init__(self, knows: Knowledge) -> None:
        self.knows = knows
        self.own = knows.own
        self._held: deque[socket.socket] = deque()
        self._secret: Export | None = None
        self._mac = ""
        self._there: int | None = None
        # To the server's other addresses, as DHCP may have told it
        ip("route", "replace", "default", "via", knows.server, "dev", CARD)
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        assert _libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        there = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        assert _libc.setns(here, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(here)
        self._there = there
        self._aside = Path(f"/proc/{os.getpid()}/fd/{there}")

    def close(self) -> None:
        """End, as with the power: nothing is held any more."""
        while self._held:
            self._held.popleft().close()
        if self._there is not None:
            os.close(self._there)
            self._there = None

    def victim(self, dice: random.Random) -> Peer:
        """Choose a sibling."""
        return dice.choice(self.knows.siblings)

    # What it sends.

    def hold(self, one: socket.socket) -> None:
        """Keep a socket open: the oldest one is closed when there are too many."""
        self._held.append(one)
        while len(self._held) > HELD:
            self._held.popleft().close()

    def connect(self, address: str, port: int, *, source: str = "") -> socket.socket:
        """Open a TCP connection. Raises OSError: it is not accepted."""
        return socket.create_connection((address, port), BRIEF, (source, 0) if source else None)

    @contextmanager
    def wire(self, protocol: int = 0) -> Iterator[socket.socket]:
        """Give its card as such: frames go out as they are.

        Args:
            protocol: EtherType of the frames that are wanted; 0: none.
        """
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as card:
            card.bind((CARD, protocol))
            card.settimeout(BRIEF)
            yield card

    def send(self, *sent: bytes) -> None:
        """Send frames. What finds no room is lost, as on any wire."""
        with self.wire() as card:
            for frame in sent:
                with contextlib.suppress(OSError):
                    card.send(frame)

    def server_mac(self) -> bytes:
        """Return that of the server, from the neighbour table."""
        if not self._mac:
            with contextlib.suppress(OSError):
                self.connect(self.knows.server, self.knows.boot_port).close()
            argv = ["ip", "neigh", "show", self.knows.server]
            said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
            found = re.search(r"lladdr (\S+)", said)
            if not found:
                return frames.EVERYONE
            self._mac = found[1]
        return frames.hardware(self._mac)

    # Its own disk.

    def secret(self) -> Export:
        """Return where its own disk is, and its credentials: a system finds them in the iBFT."""
        if self._secret is None:
            with urllib.request.urlopen("http://127.0.0.1:8000/ibft", timeout=30) as answer:
                self._secret = parse_script(json.loads(answer.read())["script"])
        return self._secret

    def guess(self, victim: Peer, generation: int = 0) -> Export:
        """Return what it takes a sibling's disk to be: named as its own, with its own secret.

        Args:
            victim: whose.
            generation: that its names are of; 0: that of its own.
        """
        own = self.secret()
        who, label = own.credentials, self.own.label

        def theirs(name: str) -> str:
            name = re.sub(rf"\b{re.escape(label)}\b", victim.label, name)
            return re.sub(r"\.g\d+\b", f".g{generation}", name) if generation else name

        found = Credentials(theirs(who.initiator), theirs(who.user), who.secret)
        return Export(own.portal, self.knows.disk_port(victim), theirs(own.target), own.lun, found)

    @contextmanager
    def initiator(self, export: Export | None = None, *, held: bool = False) -> Iterator[Sender]:
        """Connect to the portal.

        Args:
            export: what to log in to; by default its own disk.
            held: the connection stays open.
        """
        one = Sender(export or self.secret(), int.from_bytes(os.urandom(5), "big"))
        one.socket.settimeout(BRIEF)
        try:
            one.connect()
            yield one
        finally:
            if held:
                self.hold(one.socket)
            else:
                one.close()

    @contextmanager
    def session(self, *, held: bool = False) -> Iterator[Sender]:
        """Log in to its own disk, to the full feature phase."""
        with self.initiator(held=held) as one:
            one.security()
            one.finish()
            yield one

    # What it pretends to be.

    @contextmanager
    def second_card(self, mac: str, *addresses: str) -> Iterator[Path]:
        """Have a second card at the same cable, in a namespace of its own; give that.

        Args:
            mac: of the card.
            addresses: that it has.
        """
        name = f"m{os.getpid() & 0xFFFFF:x}"
        ip("link", "add", "link", CARD, "name", name, "address", mac, "type", "macvlan", "mode",
           "bridge")  # fmt: skip
        try:
            ip("link", "set", name, "netns", str(self._aside))
            with inside(self._aside):
                for address in addresses:
                    ip("addr", "add", f"{address}/24", "dev", name)
                ip("link", "set", name, "up")
            yield self._aside
        finally:
            for where in (self._aside, Path("/proc/thread-self/ns/net")):
                with contextlib.suppress(subprocess.CalledProcessError), inside(where):
                    ip("link", "delete", name)

    @contextmanager
    def second_address(self, address: str) -> Iterator[None]:
        """Have one more address on its own card. Who ends the process takes it away."""
        ip("addr", "add", f"{address}/32", "dev", CARD)
        try:
            yield
        finally:
            ip("addr", "delete", f"{address}/32", "dev", CARD)


def when_off(pid: int, end: Callable[[], object]) -> None:
    """Call a function as soon as the process of a guest has ended: its power is cut."""
    handle = os.pidfd_open(pid)

    def wait() -> None:
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        ended.poll()
        os.close(handle)
        end()

    threading.Thread(target=wait, daemon=True).start()


def ip(*words: str) -> None:
    """Change a network (ip-link(8)). Raises CalledProcessError: it is refused."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def parse_script(script: str) -> Export:
    """Return what a boot script says. Raises ValueError: it boots nothing."""

    def one(pattern: str) -> str:
        found = re.search(pattern, script, re.MULTILINE)
        if not found:
            raise ValueError(f"no {pattern} in the boot script")
        return found[1]

    who = Credentials(
        one(r"^set initiator-iqn (\S+)"), one(r"^set username (\S+)"), one(r"^set password (\S+)")
    )
    portal, port, lun, target = one(r"^sanboot .*iscsi:(\S+)").replace("::", ":", 1).split(":", 3)
    return Export(portal, int(port), target, int(lun, 16), who)


def seconds(length: float) -> Iterator[float]:
    """Give the seconds that are left, until there are none."""
    end = time.monotonic() + length
    while (rest := end - time.monotonic()) > 0:
        yield rest
