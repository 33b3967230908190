"""Attacks on the control port by whoever reaches it without the token, or has stolen it."""

from __future__ import annotations

import contextlib
import re
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cape.client import Client
from tests import certificates
from tests.faults.conftest import lab
from tests.faults.small_lab import SmallLab
from tests.netboot.network import inside
from tests.waiting import HANG, wait

__all__ = ["lab"]  # a fixture

Record = Callable[[str, object], None]

TOKEN = "the-token-that-nobody-may-see"
PORT = 8470
SAME, OTHER = "127.0.0.1", "127.0.0.2"
"""Of the person with the token, and of somebody else."""
MANY = 2000
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _files() -> Iterator[None]:
    """Let this process have many connections, and the service that is forked from it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def served(lab: SmallLab, *, tls: bool = False) -> Iterator[Client]:
    """Start the service at a port, with a token; this thread is where it can be reached."""
    token = lab.at / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    keys, ca_file = "", None
    if tls:
        pair = certificates.make(lab.at / "tls")
        keys = f"certificate = {pair.certificate}\nprivate_key = {pair.key}\n"
        ca_file = str(pair.certificate)
    url = f"{'https' if tls else 'http'}://{SAME}:{PORT}"
    lab.set("service", f"{url}\ntoken_file = {token}\n{keys}")
    lab.client = Client(url, str(token), ca_file=ca_file)
    with inside(lab._namespace):
        lab.start()
        assert lab.runs, lab.seen()
        yield lab.client


def connect(source: str) -> socket.socket:
    return socket.create_connection((SAME, PORT), HANG, (source, 0))


def is_open(connection: socket.socket) -> bool:
    """Tell whether the service has not ended a connection over which it said nothing."""
    connection.setblocking(False)
    try:
        return connection.recv(1 << 16) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def open_of(connections: list[socket.socket]) -> int:
    return sum(map(is_open, connections))


@contextmanager
def held(source: str, said: bytes, number: int = MANY) -> Iterator[list[socket.socket]]:
    """Hold connections over which so much was said."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(number):
            connection = stack.enter_context(connect(source))
            made.append(connection)
            with contextlib.suppress(OSError):
                connection.sendall(said)
        yield made


def few(attack: list[socket.socket]) -> None:
    """See that no more are held than may be: those that came first went at once.

    It is looked at when one that came last was served, and before any of them could time out.
    """
    wait(lambda: open_of(attack) <= 512, 30.0, "too many", lambda: str(open_of(attack)))


def none(attack: list[socket.socket]) -> None:
    """See that none of them lasts."""
    wait(lambda: not open_of(attack), what="some last", seen=lambda: str(open_of(attack)))


def peak(lab: SmallLab) -> float:
    """Return the most memory that the service had, in MiB."""
    assert lab._service
    status = Path(f"/proc/{lab._service.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


HALF = b"GET /v1/hosts HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.mark.parametrize("source", [SAME, OTHER], ids=["same-address", "other-address"])
def test_half_requests(lab: SmallLab, source: str, record_property: Record) -> None:
    """2,000 half requests without a token, held open by one address.

    Before: all of them were held, for ever, each with a file of the service.
    Now: at most 512 are, for at most 15 s; who has the token is served meanwhile, also at the
    same address.
    """
    with served(lab) as client, held(source, HALF) as attack:
        assert client.hosts()
        few(attack)
        record_property("held", open_of(attack))
        for _ in range(20):
            assert client.hosts()
        none(attack)
        assert client.hosts()


def test_a_header_that_never_ends(lab: SmallLab) -> None:
    """A request whose header comes byte by byte, for ever.

    Before: it was waited for, as long as bytes came.
    Now: the connection ends 15 s after it began.
    """
    with served(lab) as client, connect(OTHER) as slow:

        def drip() -> bool:
            with contextlib.suppress(OSError):
                slow.send(b"x")
            return not is_open(slow)

        slow.sendall(HALF + b"X-Slow: ")
        wait(drip, what="it goes on", pause=0.2)
        assert client.hosts()


def test_half_handshakes(lab: SmallLab) -> None:
    """700 connections to an encrypted service that never begin their handshake.

    Before: all of them were held for 60 s.
    Now: at most 512 are, for at most 15 s.
    """
    with served(lab, tls=True) as client, held(OTHER, b"\x16\x03\x01", 700) as attack:
        assert client.hosts()
        few(attack)
        none(attack)
        assert client.hosts()


def send_until_refused(connection: socket.socket, piece: bytes, most: int) -> int:
    """Send up to so many bytes; return how many were taken."""
    sent = 0
    with contextlib.suppress(OSError):
        while sent < most and not select.select([connection], [], [], 0)[0]:
            connection.sendall(piece)
            sent += len(piece)
    return sent


@pytest.mark.parametrize("how", ["declared", "chunked"])
def test_a_body_without_end(lab: SmallLab, how: str, record_property: Record) -> None:
    """A body of 400 MB, with the token.

    Before: it was kept, twice: 869 MB of memory.
    Now: the answer is 413 once 64 KiB are more than enough, and the memory stays as it is.
    """
    head = f"POST /v1/hosts/pc1/start HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Type: application/json\r\n"
    kilo = bytes(MIB).replace(b"\0", b" ")
    if how == "declared":
        head, piece = f"{head}Content-Length: {400 * MIB}\r\n\r\n", kilo
    else:
        head, piece = f"{head}Transfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + kilo + b"\r\n"
    with served(lab) as client, connect(SAME) as attack:
        before = peak(lab)
        attack.sendall(head.encode())
        sent = send_until_refused(attack, piece, 400 * MIB)
        answer = b""
        with contextlib.suppress(OSError):  # it may be lost when the connection is cut behind it
            answer = attack.recv(1 << 16)
        assert not answer or b" 413 " in answer.split(b"\r\n")[0]
        assert sent < 100 * MIB
        assert client.hosts()
        record_property("memory, MiB more", round(peak(lab) - before))
        assert peak(lab) - before < 20
        assert client.host("pc1")["run"] is False


def test_wrong_tokens(lab: SmallLab, record_property: Record) -> None:
    """Guesses of the token as fast as answers come, from the address that CAPE has.

    Before: as many as could be sent, and nobody heard of it.
    Now: each answer takes longer, up to 5 s, one line a minute names the address, and CAPE is
    served meanwhile.
    """
    guess = "GET /v1/hosts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer guess-{}\r\n\r\n"
    over, answers = threading.Event(), []

    def attack(number: int) -> None:
        with inside(lab._namespace):
            while not over.is_set():
                with contextlib.suppress(OSError), connect(SAME) as connection:
                    connection.sendall(guess.format(number).encode())
                    answers.append(connection.recv(100))

    def log_in() -> None:
        form = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\ntoken=guess-x"
        with connect(SAME) as connection:
            connection.sendall(form)
            assert b" 401 " in connection.recv(100)

    with served(lab) as client:
        threads = [threading.Thread(target=attack, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            wait(lambda: len(answers) > 12, what="no answer", seen=lambda: str(answers))
            for _ in range(20):
                assert client.hosts()
            log_in()
        finally:
            over.set()
            for thread in threads:
                thread.join(HANG)
        assert all(b" 401 " in one or b" 429 " in one for one in answers)
        text = lab.log.read_text()
    lines = [line for line in text.splitlines() if "wrong token" in line]
    record_property("lines", len(lines))
    assert lines
    assert "127.0.0.1 gives a wrong token to the control API" in lines[0]
    assert len(lines) <= 2
    assert "guess" not in text
    assert TOKEN not in text


def test_what_is_done_with_a_stolen_token(lab: SmallLab) -> None:
    """A thief of the token starts, resets and switches hosts, with a task that forges a log line.

    Before: nothing told who had done it.
    Now: the audit log has a line for each, with the address; the forged line is none.
    """
    forged = "x\n2026-01-01 00:00:00,000 INFO    cuckoo_zfsiscsi.audit: who=admin what=stop"
    with served(lab) as client:
        lab.wait(lambda: lab.state() == "clean", "the first reset")
        client.start("pc1", HANG, forged)
        client.stop("pc1", HANG)
        client.reset("pc1")
        with contextlib.suppress(Exception):
            client.maintenance("pc9", True)
        lab.wait(lambda: "host=pc9" in lab.log.read_text(), "the last line: answers come first")
        text = lab.log.read_text()
    lines = [line for line in text.splitlines() if " cuckoo_zfsiscsi.audit: " in line]
    line = r"audit: who=token from=127\.0\.0\.1 what=(\w+) host=(\w+) result=\"(\d+)"
    found = [re.search(line, one) for one in lines]
    assert [one and one.groups() for one in found] == [
        ("start", "pc1", "200"), ("stop", "pc1", "200"), ("reset", "pc1", "200"),
        ("maintenance", "pc9", "404"),
    ]  # fmt: skip
    assert "who=admin" in lines[0], "it is in the line of who said it"
    assert TOKEN not in text


def test_half_requests_at_the_socket(lab: SmallLab) -> None:
    """A user who may open the unix socket holds 600 half requests over it.

    Before: all of them were held, for ever.
    Now: at most 512 are, for at most 15 s, and root is served meanwhile.
    """
    lab.start()
    with contextlib.ExitStack() as stack:
        attack = []
        for _ in range(600):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(HANG)
            connection.connect(str(lab.at / "api.sock"))
            connection.sendall(HALF)
            attack.append(connection)
        assert lab.client.hosts()
        few(attack)
        none(attack)
    lab.client.reset("pc1")
    lab.wait(lambda: 'who="uid 0" what=reset host=pc1' in lab.log.read_text(), "the audit line")
