"""A guest against DHCP, TFTP and the boot listener. No ruleset is loaded: see test_ruleset.py."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from cuckoo_zfsiscsi.lab.network import mac
from cuckoo_zfsiscsi.netboot.lines import SERVER_LINES
from cuckoo_zfsiscsi.netboot.offences import LINES
from tests.attacks import floods
from tests.faults.attacker import dhcp
from tests.faults.farm import Farm
from tests.faults.patience import TEST
from tests.netboot.network import inside
from tests.waiting import HANG, wait

pytestmark = pytest.mark.timeout(TEST)

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """pc1 is infected, pc2 is its sibling; both are off and clean."""
    with floods.clean_farm(tmp_path_factory.mktemp("farm"), 2) as made:
        yield made


def test_tftp_is_asked_and_never_answered(farm: Farm, record_property: Record) -> None:
    """60 requests for a boot file that are never answered, and five a second after them.

    Before: nobody loaded anything by TFTP for 29 s after the 60, nor as long as it went on.
    Now: a sibling's boot file comes.
    """
    pc1, pc2 = (floods.namespace(farm, number) for number in (1, 2))
    calm = floods.measured(lambda: floods.fetch(pc2))
    asked = [floods.ask_tftp(pc1) for _ in range(60)]
    try:
        with floods.flood(lambda: floods.ask_tftp(pc1).close(), 0.2):
            late = floods.measured(lambda: floods.fetch(pc2)) - calm
    finally:
        for sock in asked:
            sock.close()
    record_property("sibling's boot file late, s", round(late, 3))
    assert late < floods.LATE


@pytest.fixture
def invented(farm: Farm) -> Iterator[list[str]]:
    """230 addresses that pc1 takes beside its own."""
    addresses = [f"10.99.0.{number}" for number in range(20, 250)]
    name = floods.namespace(farm, 1).name

    def change(verb: str) -> None:
        text = "".join(f"addr {verb} {one}/24 dev eth0\n" for one in addresses)
        argv = ["ip", "-n", name, "-batch", "-"]
        subprocess.run(argv, input=text, text=True, check=True, timeout=HANG)

    change("add")
    yield addresses
    change("del")


def test_invented_addresses_fill_the_boot_listener(
    farm: Farm, invented: list[str], record_property: Record
) -> None:
    """Eight connections from each of 230 invented addresses, held open.

    Before: the boot listener was full, and no sibling got its boot script.
    Now: a sibling starts as ever.
    """
    calm = floods.start_sibling(farm)
    held: list[socket.socket] = []
    try:
        with inside(floods.namespace(farm, 1)):
            for address in invented:
                for _ in range(8):
                    sock = socket.socket()
                    held.append(sock)
                    sock.bind((address, 0))
                    sock.settimeout(HANG)
                    with contextlib.suppress(ConnectionError):
                        sock.connect(floods.LISTENER)
                        sock.sendall(b"GET /boot.ipxe HTTP/1.1\r\n")
        late = floods.start_sibling(farm) - calm
    finally:
        for sock in held:
            sock.close()
    record_property("sibling's start late, s", round(late, 3))
    assert late < floods.LATE


def test_a_guest_that_leaves_its_connections_open(farm: Farm) -> None:
    """All the connections that its host may have, left open as its power is cut.

    Before: the host's own firmware was refused for half a minute, and gave up.
    Now: it gets its boot script at once, as the oldest connection ends for it.
    """
    with contextlib.ExitStack() as held, inside(floods.namespace(farm, 1)):
        mine = [held.enter_context(socket.create_connection(floods.LISTENER, HANG))
                for _ in range(8)]  # fmt: skip
        for sock in mine:
            sock.sendall(b"GET /boot.ipxe HTTP/1.1\r\n")
        with socket.create_connection(floods.LISTENER, HANG) as firmware:
            firmware.sendall(f"GET /boot.ipxe?mac={mac(1)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert firmware.recv(100).startswith(b"HTTP/1.1 404 "), "it is not armed"


def test_a_flood_of_requests(farm: Farm, record_property: Record) -> None:
    """Requests for the boot script without end, over eight connections at a time.

    Before: each of them was looked at.
    Now: a hundred at once and ten a second are, the others are told to ask again; a sibling starts
    as ever.
    """
    calm = floods.start_sibling(farm)
    request = f"GET /boot.ipxe?mac={mac(1)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    pc1 = floods.namespace(farm, 1)
    put_off = 0

    def ask() -> None:
        nonlocal put_off
        with inside(pc1), socket.create_connection(floods.LISTENER, HANG) as guest:
            guest.sendall(50 * request)
            guest.shutdown(socket.SHUT_WR)
            while answers := guest.recv(65536):
                put_off += answers.count(b"made ready")

    with contextlib.ExitStack() as all_of_them:
        for _ in range(8):
            all_of_them.enter_context(floods.flood(ask))
        late = floods.start_sibling(farm) - calm
    record_property("sibling's start late, s", round(late, 3))
    assert late < floods.LATE
    assert put_off


def test_the_log_is_not_filled(farm: Farm, record_property: Record) -> None:
    """DHCP from its own card and invented ones, files that are not there, and what is no request.

    Before: a line or two for each, 85,000 in half a minute.
    Now: some of each kind for a host, and for all strangers together.
    """
    pc1 = floods.namespace(farm, 1)
    own = bytes.fromhex(mac(1).replace(":", ""))
    before = len(farm.log.read_text().splitlines())
    with inside(pc1), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", 0))
        for number in range(1500):
            stranger = b"\2\0\0\0" + number.to_bytes(2, "big")
            for card in (own, stranger):
                wire.send(dhcp(card, card, number.to_bytes(4, "big"), b"\x35\1\1"))
    with floods.datagrams(pc1) as guest:
        for number in range(1500):
            guest.sendto(floods.read_request(f"nothing{number}"), floods.TFTP)
    with inside(pc1):
        for _ in range(300):
            with (
                contextlib.suppress(ConnectionError),
                socket.create_connection(floods.LISTENER, HANG) as guest,
            ):
                guest.sendall(b"\x16\x03\x01\n\n")
                guest.recv(100)
    floods.fetch(floods.namespace(farm, 2))  # all of it has been read
    sent = re.compile(r"sent \S+ to 10\.99\.0\.12$", re.M)
    wait(lambda: sent.search(farm.log.read_text()), what="no line of the sibling's boot file")
    lines = len(farm.log.read_text().splitlines()) - before
    record_property("lines", lines)
    kinds = 3 * SERVER_LINES + 2 * LINES
    # Two periods may be concerned, and the sibling's lines
    assert lines < 2 * kinds + 50
