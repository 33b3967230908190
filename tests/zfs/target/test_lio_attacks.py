"""What a guest can do to others, and to its own next run, through the kernel's target: nothing.

The ruleset is not loaded here: what it keeps away comes through.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.target import Export
from cuckoo_zfsiscsi.disk.target.lio import LioTarget
from cuckoo_zfsiscsi.disk.target.lio_commands import LARGEST
from cuckoo_zfsiscsi.disk.target.lio_group import COMMANDS
from tests.iscsi import SECTOR, Initiator, LoginError, RawInitiator, raw
from tests.waiting import HANG, wait
from tests.zfs.target.lio import MakeDisk, Volumes, export, fence, first_block, prepare

MIB = 1 << 20
SESSIONS = 400
Record = Callable[[str, object], None]


def half_a_header(peer: RawInitiator) -> None:
    """Promise 4096 bytes of a login, and send none of them (RFC 7143 11.12)."""
    peer.socket.sendall(struct.pack(">BBBB4s40x", 0x43, 0, 0, 0, (4096).to_bytes(4, "big")))


def first_request(peer: RawInitiator) -> None:
    """Begin a login as its host does, and do not read the answer."""
    peer.socket.settimeout(0.01)
    with contextlib.suppress(TimeoutError, LoginError):
        peer.begin()


HALVES = pytest.mark.parametrize(("count", "half"), [(4, half_a_header), (6, first_request)])


@contextlib.contextmanager
def jammed(found: Export, count: int, half: Callable[[RawInitiator], None]) -> Iterator[None]:
    """Hold so many half logins at a portal: one that is ended is made again at once."""
    over = threading.Event()

    def hold() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), raw(found) as peer:
                half(peer)
                peer.socket.settimeout(0.1)
                while not over.is_set():
                    with contextlib.suppress(TimeoutError):
                        if not peer.socket.recv(65536):
                            break
            over.wait(0.05)

    threads = [threading.Thread(target=hold) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(HANG)


@HALVES
def test_half_logins_keep_no_sibling_out(
    target: LioTarget,
    make_disk: MakeDisk,
    count: int,
    half: Callable[[RawInitiator], None],
    record_property: Record,
) -> None:
    """Connections to the attacker's portal with half a login each, made anew when they are ended.

    Before: nobody logged in at that portal, which all hosts had, as long as it went on.
    Now: a sibling is reset and logs in as always, as its portal is another.
    """
    found = export(target, make_disk())
    disks = [make_disk("pc2", number) for number in (1, 2, 3)]
    for disk in disks:
        prepare(target, disk)
    following = iter(disks)

    def reset() -> tuple[float, float]:
        """Reset the sibling, and let it log in, which it tries for 10 s; return seconds of both."""
        begin, disk = time.monotonic(), next(following)
        fence(target, "pc2")
        sibling = export(target, disk)
        armed = time.monotonic()
        with Initiator(sibling) as guest:
            logged_in = time.monotonic()
            assert guest.read(0) == first_block(disk)
            return armed - begin, logged_in - armed

    reset()
    calm = reset()
    with jammed(found, count, half):
        attacked = reset()
    record_property("reset late, s", round(attacked[0] - calm[0], 2))
    record_property("login late, s", round(attacked[1] - calm[1], 2))


@HALVES
def test_half_logins_do_not_outlast_the_fence(
    target: LioTarget,
    make_disk: MakeDisk,
    count: int,
    half: Callable[[RawInitiator], None],
    record_property: Record,
) -> None:
    """The same connections, from an address that is no host's.

    Before: those that hold no ACL were left alone at the fence, and nobody logged in afterwards.
    Now: the fence closes whatever is connected to the host's portal.
    """
    found, following = export(target, make_disk()), make_disk(generation=2)
    with ExitStack() as stack:
        for _ in range(count):
            peer = stack.enter_context(closing(RawInitiator(found)))
            peer.socket.bind(("127.0.0.9", 0))
            peer.connect()
            half(peer)
        time.sleep(0.5)
        begin = time.monotonic()
        fence(target)
        record_property("fence, s", round(time.monotonic() - begin, 2))
        with Initiator(export(target, following, 1)) as guest:
            record_property("login after, s", round(time.monotonic() - begin, 2))
            assert guest.read(0) == first_block(following)


@HALVES
def test_half_logins_end_by_themselves(
    target: LioTarget, make_disk: MakeDisk, count: int, half: Callable[[RawInitiator], None]
) -> None:
    """The same connections, left behind in a run whose guest then reboots.

    Before: who had sent 48 bytes counted as heard. Half a request held the portal for 15 s, a whole
    one for ever.
    Now: each has some seconds in which to log in, and is ended.
    """
    disk = make_disk()
    found = export(target, disk)
    with ExitStack() as stack:
        peers = [stack.enter_context(raw(found)) for _ in range(count)]
        for peer in peers:
            half(peer)

        def reboot() -> bytes:
            with contextlib.suppress(LoginError), Initiator(found) as guest:
                return guest.read(0)
            return b""

        assert wait(reboot, what="the guest can't log in any more") == first_block(disk)


def test_a_login_begun_at_a_siblings_target(
    target: LioTarget, make_disk: MakeDisk, record_property: Record
) -> None:
    """A login that is begun at the sibling's target, under its initiator name, and not ended.

    Before: the sibling's fence waited for it in vain: connections of an address that another host
    had a session from were left alone.
    Now: whatever is connected to the sibling's portal is cut, wherever it comes from.
    """
    own, sibling = export(target, make_disk()), export(target, make_disk("pc2"))
    with closing(RawInitiator(own)) as session, closing(RawInitiator(sibling)) as attack:
        for peer in (session, attack):
            peer.socket.bind(("127.0.0.7", 0))
            peer.connect()
        session.security()
        session.finish()
        assert target.sessions("pc1")
        attack.begin()
        begin = time.monotonic()
        target.fence("pc2", deadline=Deadline(HANG / 4))
        record_property("fence, s", round(time.monotonic() - begin, 2))
        following = make_disk("pc2", 2)
        with Initiator(export(target, following, 1)) as guest:
            assert guest.read(0) == first_block(following)
        assert target.sessions("pc1")
    fence(target)


def test_a_flood_of_sessions(
    target: LioTarget, make_disk: MakeDisk, record_property: Record
) -> None:
    """400 sessions of one guest with its own secret, as fast as it can.

    Before: all were let in, and the fence took 63.7 s.
    Now: some seconds' quarter later nobody is let in any more until the next reset.
    """
    found, following = export(target, make_disk()), make_disk(generation=2)
    with ExitStack() as stack:
        inside = 0
        with contextlib.suppress(LoginError, ConnectionError):
            for isid in range(SESSIONS):
                peer = stack.enter_context(raw(found, isid))
                peer.security()
                peer.finish()
                inside += 1
        record_property("sessions", inside)
        begin = time.monotonic()
        fence(target)
        record_property("fence, s", round(time.monotonic() - begin, 2))
        assert inside < SESSIONS / 2, "nobody stopped them"
        assert target.sessions("pc1") == []
    with Initiator(export(target, following, 1)) as guest:
        assert guest.read(0) == first_block(following)


def test_writes_whose_data_never_comes(
    target: LioTarget, make_disk: MakeDisk, record_property: Record
) -> None:
    """512 writes of 4 MiB are announced, and their data is not sent.

    Before: up to 380 MiB of the kernel's memory, for 64 commands and more at once.
    Now: a session may have 32 under way.
    """
    found = export(target, make_disk())
    with raw(found) as guest:
        guest.security()
        guest.finish(InitialR2T="Yes", ImmediateData="No")
        before = available()
        guest.promise_much(512, 4 * MIB)
        took = [before - available()]
        end = time.monotonic() + 2  # it ends the connection after 3 s without data
        while time.monotonic() < end:
            took.append(before - available())
            time.sleep(0.05)
        record_property("memory, MiB", max(took) // MIB)
        begin = time.monotonic()
        fence(target)
        record_property("fence, s", round(time.monotonic() - begin, 2))
    assert COMMANDS * 2 * MIB < max(took) < (COMMANDS + 16) * 4 * MIB


def test_commands_that_take_all_memory(
    target: LioTarget, make_disk: MakeDisk, volumes: Volumes, record_property: Record
) -> None:
    """Writes of 256 MiB are announced, twice the server's memory in all, and no data is sent.

    Before: all of the memory was taken, and the kernel ended programs to go on.
    Now: who sends such a command is fenced, and its run is told why; a sibling's goes on.
    """
    huge = Disk("pc1", 1, "win10@1", volumes.make(256), "current")
    sibling = make_disk("pc2")
    found = export(target, huge)
    with Initiator(export(target, sibling)) as guest, raw(found) as infected:
        infected.security()
        infected.finish(InitialR2T="Yes", ImmediateData="No")
        least = before = available()
        infected.promise_much(2 * before // (256 * MIB), 256 * MIB)
        end = time.monotonic() + HANG
        while target.sessions("pc1") and time.monotonic() < end:
            least = min(least, available())
            time.sleep(0.01)
        record_property("memory before and at least, MiB", [before // MIB, least // MIB])
        assert "pc1 sent a command of more than 16 MiB" in target.ended("pc1")
        wait(lambda: available() > before / 2, what="the memory does not come back")
        assert target.ended("pc2") == ""
        assert guest.read(0) == first_block(sibling)
    fence(target)
    assert target.ended("pc1") == ""


def test_the_largest_command_that_a_system_may_send(target: LioTarget, volumes: Volumes) -> None:
    found = export(target, Disk("pc1", 1, "win10@1", volumes.make(256), "current"))
    with Initiator(found) as guest:
        assert guest.read(0, LARGEST) == bytes(LARGEST)
        assert len(guest.inquiry(0xB0)) > 12
        (most,) = struct.unpack(">I", guest.inquiry(0xB0)[8:12])
        assert most * SECTOR == LARGEST, "it is told that it may send so much"


def available() -> int:
    """Return bytes of memory that can be had (proc(5), MemAvailable)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) << 10
    raise AssertionError("a kernel without MemAvailable")


def test_a_sibling_cannot_be_reached_by_its_name_at_ones_own_portal(
    target: LioTarget, make_disk: MakeDisk
) -> None:
    """A login to the sibling's target, at the attacker's own portal, with all of its credentials.

    Before: all targets were at one portal, so whoever had the secret was let in anywhere.
    Now: a portal has its host's target alone.
    """
    own, sibling = export(target, make_disk()), export(target, make_disk("pc2"))
    with raw(own) as peer:
        peer.export = Export(own.portal, own.port, sibling.target, 0, sibling.credentials)
        with pytest.raises(LoginError):
            peer.begin()
    assert target.sessions("pc2") == []
