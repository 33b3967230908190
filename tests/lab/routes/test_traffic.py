"""What packets, made by hand, show."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest

from cuckoo_zfsiscsi.lab.routes.route import Route
from cuckoo_zfsiscsi.lab.routes.traffic import Packet, Seen, Server, Sought, look, packets

HOST, SERVER, C2, DNS = "10.99.0.11", "10.99.0.1", "203.0.113.10", "203.0.113.53"
GATEWAY_MAC, LINE_MAC, OTHER_MAC = "52:54:00:99:03:01", "52:54:00:99:03:02", "02:00:00:00:00:07"
INETSIM = "10.96.0.2"
PRIVATE = Server("private", "10.1.2.3", b"secret")
SOUGHT = Sought(GATEWAY_MAC, LINE_MAC, HOST, Server("C2", C2, b"token"), INETSIM, [PRIVATE])


def frame(
    source: str,
    target: str,
    ports: tuple[int, int] = (1000, 80),
    said: bytes = b"",
    *,
    to: str = OTHER_MAC,
    protocol: int = 6,
    options: bytes = b"",
    fragment: int = 0,
) -> bytes:
    tcp = struct.pack("!HHIIBBHHH", *ports, 1, 1, 0x50, 0x18, 100, 0, 0) + said
    udp = struct.pack("!HHHH", *ports, 8 + len(said), 0) + said
    payload = tcp if protocol == 6 else udp
    ip = struct.pack(
        "!BBHHHBBH4s4s",
        0x45 + len(options) // 4,
        0,
        20 + len(options) + len(payload),
        0,
        fragment,
        64,
        protocol,
        0,
        IPv4Address(source).packed,
        IPv4Address(target).packed,
    )
    ethernet = bytes.fromhex(to.replace(":", "")) + bytes(6) + b"\x08\x00"
    return (ethernet + ip + options + payload).ljust(60, b"\0")


def capture(*frames: bytes) -> bytes:
    return b"".join(struct.pack("<IIII", 7, 500000, len(one), len(one)) + one for one in frames)


def test_packets() -> None:
    content = capture(
        frame(HOST, C2, (1000, 80), b"GET", to=GATEWAY_MAC),
        bytes(60),
        frame(HOST, DNS, (1001, 53), b"query", protocol=17),
        frame(HOST, C2, said=b"GET", options=bytes(8)),
        frame(HOST, C2, said=b"more", fragment=0x20),
        frame(HOST, C2, protocol=1),
    )
    assert list(packets(content)) == [
        Packet(7.5, GATEWAY_MAC, HOST, C2, (1000, 80), b"GET", is_tcp=True),
        Packet(7.5, OTHER_MAC, HOST, DNS, (1001, 53)),
        Packet(7.5, OTHER_MAC, HOST, C2, (1000, 80), b"GET", is_tcp=True),
        Packet(7.5, OTHER_MAC, HOST, C2, is_tcp=True),  # a later part has no head
        Packet(7.5, OTHER_MAC, HOST, C2),
    ]
    for length in range(len(content)):
        assert len(list(packets(content[:length]))) <= 5


def test_c2_answers() -> None:
    asked = frame(HOST, C2, said=b"GET / token")
    assert look(SOUGHT, capture(asked), b"") == Seen()
    to_another = frame(C2, "10.99.0.12", (80, 1000), b"token")
    assert not look(SOUGHT, capture(asked, to_another), b"").c2
    refused = frame(C2, HOST, (80, 1000))
    assert not look(SOUGHT, capture(asked, refused), b"").c2
    answered = frame(C2, HOST, (80, 1000), b"HTTP/1.1 200 OK\r\n\r\ntoken")
    seen = look(SOUGHT, capture(asked, answered), b"")
    assert (seen.c2, seen.answered) == (True, "C2")


def test_inetsim_answers() -> None:
    said = b"HTTP/1.1 200 OK\r\nServer: INetSim HTTP Server\r\n"
    seen = look(SOUGHT, capture(frame(INETSIM, HOST, (80, 1000), said)), b"")
    assert (seen.c2, seen.inetsim, seen.answered) == (False, True, "INetSim")
    for other in (
        frame(INETSIM, HOST, (80, 1000)),
        frame(PRIVATE.address, HOST, (80, 1000), said),  # in the place of what was called by number
    ):
        assert look(SOUGHT, capture(other), b"").answered == ""


def test_what_no_route_may_lead_to() -> None:
    answer = frame("10.1.2.3", HOST, (80, 1000), b"secret")
    asked = frame("203.0.113.1", "10.1.2.3")
    for port, line in ((answer, b""), (b"", asked)):
        seen = look(SOUGHT, capture(port), capture(line))
        assert seen.forbidden == ("private",)
        for route in ("internet", "none"):
            assert "private was reached" in seen.faults(route)
    simulated = frame("10.1.2.3", HOST, (80, 1000), b"HTTP/1.1 200 OK\r\nServer: INetSim")
    for other in (simulated, frame(HOST, "10.1.2.3", said=b"secret")):
        assert look(SOUGHT, capture(other), b"").forbidden == ()


def test_what_leaves() -> None:
    line = capture(
        frame("203.0.113.1", C2),
        frame(C2, "203.0.113.1", (80, 1000), to=LINE_MAC),
        frame("203.0.113.1", C2),
    )
    seen = look(SOUGHT, b"", line)
    assert seen.left == (C2,)
    assert seen.faults("internet") == []
    for route in ("none", "drop", "inetsim"):
        assert seen.faults(route) == [f"packets left for the internet, to {C2}"]


def test_iscsi_by_the_gateway() -> None:
    port = capture(
        frame(HOST, SERVER, (1000, 3260)),
        frame(SERVER, HOST, (3260, 1000)),
        frame(HOST, SERVER, (1000, 8471), to=GATEWAY_MAC),
        frame(HOST, SERVER, (1000, 3260), protocol=17, to=GATEWAY_MAC),
    )
    seen = look(SOUGHT, port, b"")
    assert (seen.iscsi, seen.iscsi_to_gateway) == (2, 0)
    seen = look(SOUGHT, port + capture(frame(HOST, SERVER, (1000, 3260), to=GATEWAY_MAC)), b"")
    assert (seen.iscsi, seen.iscsi_to_gateway) == (3, 1)
    for route in ("internet", "none"):
        assert seen.faults(route) == ["1 iSCSI packets were sent to the gateway"]


@pytest.mark.parametrize("route", ["none", "internet", "inetsim", "drop"])
def test_nothing_seen_is_no_fault(route: Route) -> None:
    assert Seen().faults(route) == []
