"""GET / and POST /execute, against what answers as CAPE's agent does, it itself, and liars."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError
from cuckoo_zfsiscsi.readiness.agent import MAX_ANSWER, PORT, Output, execute, judge, probe
from cuckoo_zfsiscsi.readiness.stream import GuestError
from tests.readiness.peers import (
    AGENTS,
    GUEST,
    Network,
    cape_agent,
    capes_agent,
    dribble,
    guest,
    says,
    silent,
)
from tests.waiting import HANG

GOOD = {
    "message": "CAPE Agent!",
    "version": "0.22",
    "features": ["execpy", "execute", "pinning", "logs", "largefile", "unicodepath"],
    "is_user_admin": True,
}
TEXT = json.dumps(GOOD).encode()
OK = b"HTTP/1.0 200 OK\r\nServer: CAPE Agent\r\n\r\n"


class Agent(http.server.BaseHTTPRequestHandler):
    """Answers as CAPE's agent 0.22 does: HTTP/1.0, no length."""

    seen: list[tuple[str, str]] = []  # noqa: RUF012 - one per test, set by the fixture

    def do_GET(self) -> None:
        self.seen.append((self.path, self.client_address[0]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(TEXT)

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def agent() -> Iterator[int]:
    Agent.seen = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Agent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_agent(agent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    answer = probe("127.0.0.1", agent, deadline=Deadline(HANG))
    assert (answer.ok, answer.heard, answer.detail) == (True, True, "CAPE Agent! '0.22'")
    assert Agent.seen == [("/", "127.0.0.1")]


def test_newer_agents_may_speak_newer_http() -> None:
    chunks = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (9, TEXT[:9], len(TEXT) - 9, TEXT[9:])
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(TEXT), TEXT),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks,
    ]
    for answer in answers:
        with guest(says(answer, pause=0.3)) as port:
            seen = probe("127.0.0.1", port, deadline=Deadline(HANG))
            assert seen.ok, seen.detail


@pytest.mark.parametrize(
    ("behave", "detail"),
    [
        (says(b""), "not HTTP: RemoteDisconnected"),
        (says(b"SSH-2.0-OpenSSH_9.2p1\r\n"), "not HTTP: BadStatusLine"),
        (says(b"\x05\x00\x0d\x03\x10\x00\x00\x00"), "not HTTP"),
        (says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"), "HTTP status 302"),
        (says(b"HTTP/1.0 404 Not found\r\n\r\n" + TEXT), "HTTP status 404"),
        (says(OK), "no JSON"),
        (says(OK + TEXT[:20]), "no JSON"),
        (says(OK + b"\xff\xfe\xfd"), "no JSON"),
        (says(OK + b"[" * 60000), "no JSON"),
        (says(OK + b"1" * 6000), "no JSON"),
        (says(OK + b"[1]"), "not CAPE's agent"),
        (says(OK + b'{"message": 7}'), "not CAPE's agent"),
        (says(OK + b'{"message": "Cuckoo Agent!"}'), "not CAPE's agent: message 'Cuckoo Agent!'"),
        (says(OK + b'{"version": "0.22"}'), "not CAPE's agent"),
        (says(OK + b" " * MAX_ANSWER + TEXT), f"sent more than {MAX_ANSWER} bytes"),
        (says(b"HTTP/1.0 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n"), "sent more than"),
        (says(b"HTTP/1.0 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n" + TEXT), "not HTTP: HTTPExc"),
        (says(b"HTTP/1.1 100 Continue\r\n\r\n" * 5000), "sent more than"),
        (
            says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + TEXT),
            "not HTTP: IncompleteRead",
        ),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n"), "no JSON"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), "no JSON"),
    ],
)
def test_not_the_agent(behave: Callable[..., None], detail: str) -> None:
    with guest(behave) as port:
        answer = probe("127.0.0.1", port, deadline=Deadline(HANG))
    assert not answer.ok
    assert answer.heard, "an agent that CAPE has pinned hangs up on everyone else"
    assert detail in answer.detail
    assert len(answer.detail) < 200


@pytest.mark.parametrize(
    "behave",
    [
        silent,
        dribble(b"HTTP/1.0 200 OK\r\n"),  # never ends its headers
        dribble(b"HTTP/1.0 200 OK\r\n\r\n" + TEXT),  # nor its body
        dribble(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1"),
    ],
)
def test_time_is_bounded(behave: Callable[..., None]) -> None:
    with guest(behave) as port:
        answer = probe("127.0.0.1", port, deadline=Deadline(1.0))
    assert not answer.ok
    assert not answer.heard
    assert answer.detail == "the guest's answer took longer than 1.0 s"


def test_nobody_listens() -> None:
    with guest(silent) as port:
        pass
    answer = probe("127.0.0.1", port, deadline=Deadline(HANG))
    assert not answer.ok
    assert not answer.heard
    assert answer.detail == "no connection: Connection refused"


def test_cancelled_while_the_guest_dribbles() -> None:
    cancel = Cancel()
    threading.Timer(0.2, cancel.set, ("stop",)).start()
    with guest(dribble(OK)) as port, pytest.raises(CancelledError):
        probe("127.0.0.1", port, deadline=Deadline(HANG, cancel))


def test_memory_that_a_length_claims_is_not_set_aside() -> None:
    """A terabyte would fail at once with MemoryError, which nobody would catch."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (1 << 50, TEXT)
    with guest(says(answer)) as port:
        assert probe("127.0.0.1", port, deadline=Deadline(HANG)).ok


@settings(max_examples=50)
@given(st.binary(max_size=300), st.booleans())
def test_nothing_raises(noise: bytes, after_a_status: bool) -> None:
    text = b"HTTP/1.1 200 OK\r\n" + noise if after_a_status else noise
    with guest(says(text)) as port:
        assert not probe("127.0.0.1", port, deadline=Deadline(HANG)).ok


@given(st.binary(max_size=100))
def test_no_bytes_are_the_agent(body: bytes) -> None:
    with pytest.raises(GuestError):
        judge(200, body)


def run(network: Network, address: str, *command: str) -> Output:
    return network.run(lambda: execute(address, PORT, command, deadline=Deadline(HANG)))


@pytest.fixture
def network() -> Iterator[Network]:
    one = Network()
    yield one
    one.delete()


@pytest.mark.parametrize("program", AGENTS)
def test_execute(network: Network, program: Callable[[], Path], tmp_path: Path) -> None:
    words = ["a 'b'", 'c "d"', "$HOME", "e&f=g+h%41;", "\\", "", "\u00e4"]
    with cape_agent(network, program(), tmp_path / "etc"):
        said = run(network, GUEST, "printf", "<%s>", *words)
        assert said == Output("".join(f"<{word}>" for word in words), "")
        said = run(network, GUEST, "sh", "-c", "echo out; echo bad >&2; exit 3")
        assert said == Output("out\n", "bad\n")
        assert run(network, GUEST, "printf", r"\377") == Output("\ufffd", "")
        with pytest.raises(GuestError, match=r"HTTP status 500: .Error executing command: \[Err"):
            run(network, GUEST, "/no/such/program")
        assert network.run(lambda: probe(GUEST, deadline=Deadline(HANG))).ok


@pytest.mark.cape
@pytest.mark.parametrize(
    ("address", "hosts", "wrong"),
    [
        ("127.0.0.1", "127.0.1.1 guest\n", "HTTP status 500: 'Not allowed to execute commands'"),
        (GUEST, f"{GUEST} guest\n", "HTTP status 500: 'Not allowed to execute commands'"),
        (GUEST, "127.0.0.1 localhost\n", "not HTTP: RemoteDisconnected"),
    ],
)
def test_whom_capes_agent_refuses(
    network: Network, tmp_path: Path, address: str, hosts: str, wrong: str
) -> None:
    """Its own host; and everyone, when that does not know its own name."""
    with (
        cape_agent(network, capes_agent(), tmp_path / "etc", hosts=hosts),
        pytest.raises(GuestError) as caught,
    ):
        run(network, address, "true")
    assert str(caught.value) == wrong


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (b"", "not HTTP: RemoteDisconnected"),
        (b"HTTP/1.0 404 Not found\r\n\r\n" + b'{"message": "Route"}', "HTTP status 404: 'Route'"),
        (b"HTTP/1.0 500 Bad\r\n\r\n" + b'{"message": [7]}', "HTTP status 500"),
        (b"HTTP/1.0 500 Bad\r\n\r\n" + b'{"message": "\\u001b[2J"}', r"HTTP status 500: '\x1b[2J'"),
        (b'HTTP/1.0 500 Bad\r\n\r\n{"message": "%s"}' % (b"x" * 999), f"status 500: '{'x' * 100}'"),
        (b"HTTP/1.0 500 Bad\r\n\r\nno", "HTTP status 500"),
        (OK + b"no", "no JSON in its answer"),
        (OK + b'{"stdout": "' + b"x" * MAX_ANSWER + b'"}', f"sent more than {MAX_ANSWER} bytes"),
    ],
)  # fmt: skip
def test_not_executed(answer: bytes, wrong: str) -> None:
    with guest(says(answer)) as port, pytest.raises(GuestError) as caught:
        execute("127.0.0.1", port, ["true"], deadline=Deadline(HANG))
    assert str(caught.value).endswith(wrong)


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"stdout": null, "stderr": 7}'])
def test_no_output(answer: bytes) -> None:
    with guest(says(OK + answer)) as port:
        assert execute("127.0.0.1", port, ["true"], deadline=Deadline(HANG)) == Output("", "")


@pytest.mark.parametrize("behave", [silent, dribble(OK + b'{"stdout": "')])
def test_time_of_execute_is_bounded(behave: Callable[..., None]) -> None:
    with guest(behave) as port, pytest.raises(DeadlineExceededError):
        execute("127.0.0.1", port, ["true"], deadline=Deadline(1.0))
