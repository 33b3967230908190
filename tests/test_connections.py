from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from cuckoo_zfsiscsi import connections
from cuckoo_zfsiscsi.connections import Connection, established, listeners
from cuckoo_zfsiscsi.deadline import Deadline
from tests.waiting import HANG

OWN = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((OWN, 0)) as listener:
        yield listener


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def test_what_a_connection_brought_and_when(listener: socket.socket) -> None:
    begin = time.monotonic()
    assert list(established(port_of(listener))) == []
    with socket.create_connection(listener.getsockname()) as client:
        time.sleep(1.5)
        (one,) = established(port_of(listener), own=OWN, peer=OWN)
        assert (one.address, one.port) == client.getsockname()
        assert one.received == 0
        assert 1.4 < one.silent < time.monotonic() - begin + 0.1
        sent = time.monotonic()
        client.send(b"x" * 48)
        (one,) = established(port_of(listener))
        assert one.received == 48
        assert one.quiet <= one.silent < time.monotonic() - sent + 0.1
    assert list(established(port_of(listener))) == []


LISTEN = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as one:
    print("listens", flush=True)
    sys.stdin.read()
"""


def test_who_listens(listener: socket.socket) -> None:
    assert listeners(OWN, port_of(listener)) == set(), "root does"
    port = port_of(listener)
    listener.close()
    with subprocess.Popen(
        ["/usr/bin/python3", "-I", "-c", LISTEN, str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=4711, group=4711, extra_groups=[],
    ) as one:  # fmt: skip
        assert one.stdout
        assert one.stdout.readline() == b"listens\n"
        assert listeners(OWN, port) == {4711}
        assert listeners("127.0.0.2", port) == set()
        one.communicate()
    assert listeners(OWN, port) == set()


def test_only_those_that_are_asked_for(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname(), source_address=("127.0.0.9", 0)):
        port = port_of(listener)
        assert [one.address for one in established(port)] == ["127.0.0.9"]
        assert len(list(established(port, own=OWN, peer="127.0.0.9"))) == 1
        assert list(established(port, peer="127.0.0.8")) == []
        assert list(established(port, own="127.0.0.9")) == []


def test_what_ss_leaves_out_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "0 0 10.99.0.1:3260 10.99.0.11:1024 cubic lastsnd:900 lastrcv:800 bytes_received:96\n"
        "0 0 [::ffff:10.99.0.1]:3260 [::ffff:10.99.0.12]:1025 cubic lastsnd:9 lastack:700\n"
    )

    def run(argv: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(argv, 0, said, "")

    monkeypatch.setattr(subprocess, "run", run)
    assert list(established(3260)) == [
        Connection("10.99.0.11", 1024, 96, 0.8, 0.0),
        Connection("10.99.0.12", 1025, 0, 0.0, 0.0),
    ]


def test_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="ss: "):
        list(established(3260, own="no address"))
    monkeypatch.setattr(connections, "TIMEOUT", 0.0)
    with pytest.raises(TimeoutError, match="ss does not answer"):
        list(established(3260))


def test_cuts_what_is_meant_alone(listener: socket.socket) -> None:
    port = port_of(listener)
    with (
        socket.create_connection(listener.getsockname()) as one,
        socket.create_connection(listener.getsockname()),
    ):
        address, number = one.getsockname()
        connections.cut(
            f"src {OWN} and sport = :{port} and dst {address} and dport = :{number}", Deadline(HANG)
        )
        assert number not in [left.port for left in established(port)]
        assert len(list(established(port))) == 1


def test_a_cut_that_can_not_be_made_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    connections.cut("sport = :3260", Deadline(HANG))
