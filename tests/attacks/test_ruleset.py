"""A guest against the server with the ruleset loaded: real nft, real frames, dnsmasq, service."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from cuckoo_zfsiscsi.lab.network import SERVER, host_address, mac
from cuckoo_zfsiscsi.netboot.offences import neighbour
from tests.attacks import floods
from tests.faults import attacker
from tests.faults.farm import Farm
from tests.faults.patience import TEST
from tests.netboot.network import inside
from tests.waiting import HANG, wait

pytestmark = pytest.mark.timeout(TEST)

Record = Callable[[str, object], None]
BRIEF = 1.0
"""Seconds, for what nobody is to answer."""


def load(farm: Farm) -> None:
    """Load the ruleset, as the unit does: whatever a guest has used up is forgotten."""
    words = ["-m", "cuckoo_zfsiscsi", "--conf", str(farm.conf), "netboot", "firewall", "--apply"]
    farm.network.run([sys.executable, *words])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """pc1 is infected, pc2 and pc3 are its siblings; all are off and clean."""
    with floods.clean_farm(tmp_path_factory.mktemp("farm"), 3) as made:
        yield made


@pytest.fixture
def farm(served: Farm) -> Farm:
    load(served)
    return served


def dropped(farm: Farm, table: str, what: str) -> int:
    """Return how many packets the rules with these words have dropped."""
    lines = farm.network.run(["nft", "list", "table", *table.split()]).splitlines()
    words = [line.split() for line in lines if what in line and "counter" in line]
    return sum(int(one[one.index("packets", one.index("counter")) + 1]) for one in words)


def test_a_flood_of_tftp(farm: Farm, record_property: Record) -> None:
    """Requests for a boot file without end, as fast as a guest can.

    Before: nobody else loaded anything by TFTP as long as it went on.
    Now: each host has its own share of requests; a sibling's boot file comes.
    """
    pc1, pc2 = (floods.namespace(farm, number) for number in (1, 2))
    calm = floods.measured(lambda: floods.fetch(pc2))
    with floods.flood(lambda: floods.ask_tftp(pc1).close()) as times:
        late = floods.measured(lambda: floods.fetch(pc2)) - calm
        assert floods.measured(lambda: floods.start_sibling(farm))
        wait(lambda: times() > 2000, what="it is no flood")
    record_property("sibling's boot file late, s", round(late, 3))
    assert late < floods.LATE
    assert dropped(farm, "inet zfsiscsi", "@asking-tftp") > 1000


def test_transfers_that_never_end(farm: Farm) -> None:
    """Transfers that are begun, one after the other, and kept alive: by dnsmasq 2.90 for ever.

    Before: 50 of them, and nobody else loaded anything by TFTP.
    Now: a host has 32 at a time.
    """
    pc3 = floods.namespace(farm, 3)  # of pc1 there are the last attack's transfers
    with contextlib.ExitStack() as held:
        guests: list[socket.socket] = []
        for number in range(60):
            if number % 10 == 0:  # as if it had all the time that it needs
                forget_requests(farm)
            guests.append(held.enter_context(floods.ask_tftp(pc3)))

        def begun() -> int:
            return len(select.select(guests, [], [], 0)[0])

        wait(lambda: begun() >= 32, what="no transfers", seen=begun)
        time.sleep(BRIEF)
        assert begun() == 32
        assert floods.fetch(floods.namespace(farm, 2))
    forget_transfers(farm)
    forget_requests(farm)
    assert floods.fetch(pc3)


def forget_requests(farm: Farm) -> None:
    """Let time pass for the ruleset, as far as requests by TFTP are concerned."""
    farm.network.run(["nft", "flush", "set", "inet", "zfsiscsi", "asking-tftp"])


def forget_transfers(farm: Farm) -> None:
    """Forget pc3's transfers, as each reset does."""
    words = ["conntrack", "-D", "-f", "ipv4", "--reply-src", str(host_address(3))]
    farm.network.run(["sh", "-c", f"{' '.join(words)} >/dev/null 2>&1 || true"])


@pytest.mark.parametrize("port", [8471, 3271], ids=["boot listener", "disk"])
def test_a_flood_of_connections(farm: Farm, port: int, record_property: Record) -> None:
    """Connections begun without end, to the boot listener or to its own disk.

    Before: each was accepted.
    Now: 50 at once and five a second are; a sibling starts as ever.
    """
    pc1 = floods.namespace(farm, 1)
    calm = floods.start_sibling(farm)

    def knock() -> None:
        with inside(pc1), socket.socket() as guest:
            guest.setblocking(False)
            guest.connect_ex((str(SERVER.ip), port))

    with floods.flood(knock) as times:
        late = floods.start_sibling(farm) - calm
        wait(lambda: times() > 500, what="it is no flood")
    record_property("sibling's start late, s", round(late, 3))
    assert late < floods.LATE
    assert dropped(farm, "inet zfsiscsi", "@connecting") > 100


@contextlib.contextmanager
def addressed(farm: Farm, number: int, address: str) -> Iterator[None]:
    """Give a host's guest another address beside its own, which it uses towards the server."""
    here = ["ip", "-n", floods.namespace(farm, number).name]
    way = [str(SERVER.ip), "dev", "eth0"]
    farm.network.run([*here, "addr", "add", f"{address}/24", "dev", "eth0"])
    farm.network.run([*here, "route", "add", *way, "src", address])
    try:
        yield
    finally:
        farm.network.run([*here, "route", "del", *way])
        farm.network.run([*here, "addr", "del", f"{address}/24", "dev", "eth0"])


@contextlib.contextmanager
def unplugged(farm: Farm, number: int) -> Iterator[None]:
    """Have a host that is off: its card says nothing."""
    here = ["ip", "-n", floods.namespace(farm, number).name, "link", "set", "eth0"]
    farm.network.run([*here, "down"])
    try:
        yield
    finally:
        farm.network.run([*here, "up"])


@pytest.mark.parametrize("port", [8471, 3272], ids=["boot listener", "its disk"])
def test_a_siblings_address_with_ones_own_card(farm: Farm, port: int) -> None:
    """The address of a sibling that is off, from the guest's own card.

    Before: the server answered it there: boot listener, portal and TFTP took it for the sibling.
    Now: nothing that comes from a host's address by another card is looked at.
    """
    sibling = str(host_address(2))
    with unplugged(farm, 2), addressed(farm, 1, sibling):
        attack(farm, "arp", mac(1), sibling)
        with inside(floods.namespace(farm, 1)), pytest.raises(TimeoutError):
            socket.create_connection((str(SERVER.ip), port), BRIEF, (sibling, 0))
        with floods.datagrams(floods.namespace(farm, 1)) as guest:
            guest.bind((sibling, 0))
            guest.settimeout(BRIEF)
            guest.sendto(floods.read_request(), floods.TFTP)
            with pytest.raises(TimeoutError):
                guest.recv(100)
    assert dropped(farm, "inet zfsiscsi", "@cards-of-netboot")
    # Its disk's port refuses it while it is not armed, and that is an answer
    with inside(floods.namespace(farm, 2)), contextlib.suppress(ConnectionRefusedError):
        socket.create_connection((str(SERVER.ip), port), HANG).close()


def test_arp_for_a_siblings_address(farm: Farm) -> None:
    """ARP that says that a sibling's address is at the guest's own card.

    Before: the server believed it, and sent there what was for the sibling.
    Now: it is dropped; the sibling's own is not.
    """
    sibling = str(host_address(2))
    farm.network.run(["ip", "neigh", "flush", "dev", "boot0"])
    attack(farm, "arp", mac(1), sibling)
    with inside(floods.namespace(farm, 2)):
        socket.create_connection((str(SERVER.ip), 8471), HANG).close()
    attack(farm, "arp", mac(1), sibling)
    table = farm.at / "arp"
    table.write_text(farm.network.run(["cat", "/proc/net/arp"]))
    assert neighbour(sibling, table) == mac(2), table.read_text()
    assert dropped(farm, "arp zfsiscsi", "@cards-of-netboot") >= 6


def attack(farm: Farm, *words: str) -> None:
    """Have malware on pc1 do something."""
    argv = ["nsenter", f"--net={floods.namespace(farm, 1)}", "--", sys.executable]
    farm.network.run([*argv, str(attacker.__file__), *words])


def test_a_flood_of_dhcp(farm: Farm, record_property: Record) -> None:
    """DHCP requests from its own card, and from invented ones, as fast as a guest can.

    Before: dnsmasq read each of them, and wrote two lines about each.
    Now: each card has a share, all that are no host's have one together; a sibling gets its address
    and starts as ever.
    """
    calm = floods.start_sibling(farm)
    own = bytes.fromhex(mac(1).replace(":", ""))
    with inside(floods.namespace(farm, 1)):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with wire:
        wire.bind(("eth0", 0))

        def ask() -> None:
            invented = b"\2" + os.urandom(5)
            for card in (own, invented):
                wire.send(attacker.dhcp(card, card, os.urandom(4), b"\x35\1\1"))

        with floods.flood(ask) as times:
            wait(lambda: times() > 1000, what="it is no flood")
            assert floods.lease(floods.namespace(farm, 2), mac(2)) == str(host_address(2))
            late = floods.start_sibling(farm) - calm
    record_property("sibling's start late, s", round(late, 3))
    assert late < floods.LATE
    assert dropped(farm, "inet zfsiscsi", "dport 67") > 1000
