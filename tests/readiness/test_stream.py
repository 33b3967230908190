from __future__ import annotations

import socket
import struct
import threading
import time

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError
from cuckoo_zfsiscsi.readiness.stream import GuestError, GuestStream
from tests.readiness.peers import guest, says, silent
from tests.waiting import HANG


def test_reads_no_more_than_the_limit() -> None:
    def behave(connection: socket.socket) -> None:
        connection.sendall(b"x" * 100)

    with (
        guest(behave) as port,
        GuestStream("127.0.0.1", port, limit=10, deadline=Deadline(HANG)) as stream,
    ):
        reader = stream.makefile()
        assert reader.read(10) == b"x" * 10
        with pytest.raises(GuestError, match="sent more than 10 bytes"):
            reader.read(1)


@pytest.mark.parametrize("address", ["localhost", "", "127.0.0.1.5", "1", "::g"])
def test_names_are_not_looked_up(address: str) -> None:
    with pytest.raises(GuestError, match="is not an IP address"):
        GuestStream(address, 1, limit=1, deadline=Deadline(HANG))


def test_unreachable() -> None:
    with pytest.raises(GuestError, match="no connection: "):  # broadcast needs SO_BROADCAST
        GuestStream("255.255.255.255", 1, limit=1, deadline=Deadline(HANG))


def full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """Return a listener whose queue is full: a further connection hangs."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = [socket.socket() for _ in range(4)]
    for one in waiting:
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
    time.sleep(0.1)
    return listener, waiting


def test_connection_that_hangs() -> None:
    listener, waiting = full_listener()
    port = listener.getsockname()[1]
    with pytest.raises(DeadlineExceededError):
        GuestStream("127.0.0.1", port, limit=1, deadline=Deadline(0.3))
    cancel = Cancel()
    threading.Timer(0.2, cancel.set, ("stop",)).start()
    with pytest.raises(CancelledError):
        GuestStream("127.0.0.1", port, limit=1, deadline=Deadline(HANG, cancel))
    for one in (listener, *waiting):
        one.close()


def test_reset_in_the_middle() -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with (
        guest(behave) as port,
        GuestStream("127.0.0.1", port, limit=10, deadline=Deadline(HANG)) as stream,
    ):
        stream.sendall(b"hello")
        reader = stream.makefile()
        with pytest.raises(GuestError, match="connection lost: Connection reset by peer"):
            reader.read(1)
        with pytest.raises(GuestError, match="connection lost: "):
            stream.sendall(b"hello")


def test_guest_that_does_not_read() -> None:
    done = threading.Event()

    def behave(_connection: socket.socket) -> None:
        done.wait(HANG)

    with guest(behave) as port:
        with (
            GuestStream("127.0.0.1", port, limit=10, deadline=Deadline(0.5)) as stream,
            pytest.raises(DeadlineExceededError),
        ):
            stream.sendall(b"x" * 20_000_000)
        done.set()


def test_end_of_the_stream() -> None:
    with (
        guest(says(b"abc")) as port,
        GuestStream("127.0.0.1", port, limit=10, deadline=Deadline(HANG)) as stream,
    ):
        stream.sendall(b"?")
        assert stream.makefile().read(10) == b"abc"


def test_nothing_is_left_open() -> None:
    with (
        guest(silent) as port,
        GuestStream("127.0.0.1", port, limit=10, deadline=Deadline(HANG)) as stream,
    ):
        pass
    assert stream.closed
