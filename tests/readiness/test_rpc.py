"""The bind, against a real endpoint mapper and against guests that lie."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError
from cuckoo_zfsiscsi.readiness.rpc import BIND_ACK, MAX_FRAGMENT, bind, judge, probe
from cuckoo_zfsiscsi.readiness.stream import GuestError
from tests.readiness.peers import Network, dribble, endpoint_mapper, guest, says, silent
from tests.waiting import HANG

ACK = bytes.fromhex(
    "05000c03100000003c00000001000000b810b810d53200000400313335000000"
    "0100000000000000045d888aeb1cc9119fe808002b10486002000000"
)
"""What Samba 4.17 answers."""
NAK = bytes.fromhex("05000d03100000001500000001000000") + b"\x04\x00\x01\x05\x00"


def patched(at: int, value: bytes) -> bytes:
    return ACK[:at] + value + ACK[at + len(value) :]


@pytest.fixture
def network() -> Iterator[Network]:
    one = Network()
    yield one
    one.delete()


def test_real_endpoint_mapper(network: Network, tmp_path: Path) -> None:
    before = network.run(lambda: probe("127.0.0.1", deadline=Deadline(HANG)))
    assert not before.ok
    assert before.detail == "no connection: Connection refused"
    with endpoint_mapper(network, tmp_path / "samba"):
        for address in ("127.0.0.1", "::1"):
            answer = network.run(lambda a=address: probe(a, deadline=Deadline(HANG)))  # type: ignore[misc]
            assert (answer.ok, answer.detail) == (True, "endpoint mapper accepts a bind")
            assert answer.seconds >= 0


def test_real_endpoint_mapper_refuses_another_interface(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proof that the real peer looks at what we send, and that we look at its result."""
    unknown = struct.pack("<16sHH", b"\xee" * 16, 3, 0)
    monkeypatch.setattr("cuckoo_zfsiscsi.readiness.rpc.EPM", unknown)
    with endpoint_mapper(network, tmp_path / "samba"):
        answer = network.run(lambda: probe("127.0.0.1", deadline=Deadline(HANG)))
    assert not answer.ok
    assert "RPC" in answer.detail


def test_pdu_is_as_specified() -> None:
    pdu = bind()
    assert len(pdu) == 72
    assert pdu[:16].hex() == "05000b03100000004800000001000000"
    assert "0883afe11f5dc91191a408002b14a0fa0300" in pdu.hex()


@pytest.mark.parametrize("parts", [(ACK,), (ACK[:16], ACK[16:]), (ACK[:3], ACK[3:20], ACK[20:])])
def test_accepted_in_any_pieces(parts: tuple[bytes, ...]) -> None:
    with guest(says(*parts, pause=0.05)) as port:
        assert probe("127.0.0.1", port, deadline=Deadline(HANG)).ok


@pytest.mark.parametrize(
    ("behave", "detail"),
    [
        (says(b""), "closed after 0 bytes"),
        (says(ACK[:9]), "closed after 9 bytes"),
        (says(ACK[:40]), "fragment of 60 bytes ended after 40"),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not RPC: b'HTTP/1.1 400 Bad'"),
        (says(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), "not RPC"),
        (says(b"\xff" * 10000), "not RPC"),
        (says(NAK), "bind_nak"),
        (says(patched(2, b"\x03")), "PDU type 3"),
        (says(patched(0, b"\x04")), "not RPC"),
        (says(patched(1, b"\x07")), "not RPC"),
        (says(patched(3, b"\x01")), "not one RPC fragment"),
        (says(patched(4, b"\x00")), "not RPC"),
        (says(patched(12, b"\x02")), "not RPC"),
        (says(patched(8, b"\xff\xff") + b"x" * 70000), "not one RPC fragment: flags 0x3, 65535"),
        (says(patched(8, b"\x10\x00")), "not one RPC fragment: flags 0x3, 16"),
        (says(patched(8, b"\x00\x00")), "not one RPC fragment"),
        (says(patched(10, b"\x10\x00")), "not RPC"),
        (says(patched(8, b"\x18\x00")), "bind_ack is too short"),
        (says(patched(24, b"\xff\xff")), "bind_ack is too short"),
        (says(patched(32, b"\x00")), "does not accept the endpoint mapper: 0 results"),
        (says(patched(32, b"\x02")), "does not accept the endpoint mapper: 2 results"),
        (says(patched(36, b"\x02\x00\x01\x00")), "does not accept the endpoint mapper: 1 results"),
        (says(patched(40, b"\x00")), "does not accept the endpoint mapper"),
    ],
)
def test_not_accepted(behave: Callable[..., None], detail: str) -> None:
    with guest(behave) as port:
        answer = probe("127.0.0.1", port, deadline=Deadline(HANG))
    assert not answer.ok
    assert detail in answer.detail
    assert answer.seconds >= 0


@pytest.mark.parametrize(
    "behave",
    [silent, dribble(ACK[:30], pause=0.05), dribble(patched(8, struct.pack("<H", MAX_FRAGMENT)))],
)
def test_time_is_bounded(behave: Callable[..., None]) -> None:
    with guest(behave) as port:
        answer = probe("127.0.0.1", port, deadline=Deadline(0.6))
    assert not answer.ok
    assert "took longer than 0.6 s" in answer.detail


def test_cancelled_while_the_guest_is_silent() -> None:
    cancel = Cancel()
    threading.Timer(0.2, cancel.set, ("stop",)).start()
    with guest(silent) as port, pytest.raises(CancelledError):
        probe("127.0.0.1", port, deadline=Deadline(HANG, cancel))


@given(st.binary(max_size=100))
def test_no_body_but_the_right_one_is_accepted(body: bytes) -> None:
    with pytest.raises(GuestError):
        judge(BIND_ACK, body)


@given(st.integers(0, len(ACK) - 17), st.integers(1, 255))
def test_one_wrong_byte(at: int, flip: int) -> None:
    """It is refused, or the byte is one that says nothing: sizes, group, address, padding."""
    body = bytearray(ACK[16:])
    body[at] ^= flip
    try:
        judge(BIND_ACK, bytes(body))
    except GuestError:
        assert 8 <= at < 10 or at >= 16
    else:
        assert at < 10 or 10 <= at < 16 or 17 <= at < 20 or 22 <= at < 24
