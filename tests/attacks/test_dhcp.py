"""A guest against DHCP: floods, and messages in a sibling's name."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from cuckoo_zfsiscsi.lab.network import SERVER
from tests.attacks import frames
from tests.attacks.infection import Infection
from tests.netboot.network import inside
from tests.waiting import HANG, wait

Record = Callable[[str, object], None]


def offered(infection: Infection, label: str = "pc2") -> str:
    """Ask for an address as a host's ROM does, again and again; return what is offered."""
    peer = next(one for one in infection.infected.knows.siblings if one.label == label)
    with (
        inside(infection.farm.guest(label)),
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(frames.IPV4)) as card,
    ):
        card.bind(("eth0", frames.IPV4))
        card.settimeout(1.0)

        def ask() -> str:
            card.send(frames.dhcp(peer.hardware, frames.DISCOVER, frames.IPXE))
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                try:
                    frame = card.recv(2048)
                except TimeoutError:
                    break
                if frame[34:38] == b"\0\x43\0\x44" and frame[70:76] == peer.hardware:
                    return socket.inet_ntoa(frame[58:62])
            return ""

        return wait(ask, HANG, "no address is offered", infection.farm.seen)


def timed(infection: Infection) -> float:
    begin = time.monotonic()
    assert offered(infection) == "10.99.0.12"
    return time.monotonic() - begin


def test_floods(infection: Infection, record_property: Record) -> None:
    """Hundreds of DHCP requests, under its own MAC address and under made-up ones, and nonsense.

    Before: held well.
    Now: a sibling is offered its address as ever, and DHCP still runs.
    """
    calm = timed(infection)
    for seed in range(3):
        for name in ("dhcp.flood", "dhcp.made-up", "dhcp.inform", "dhcp.nonsense"):
            infection.play(name, seed)
    record_property("sibling's address late, s", round(timed(infection) - calm, 2))
    assert "DHCP has died" not in infection.farm.log.read_text()


@pytest.mark.parametrize("infection", ["dnsmasq", "isc", "kea"], indirect=True)
def test_an_address_refused_in_a_sibling_s_name(infection: Infection) -> None:
    """A DHCPDECLINE for a sibling's address with its MAC address in it, wherever its kind stands.

    Before: dnsmasq kept the address from the sibling for ten minutes, Kea for a day: no boot.
    Now: refusals are dropped: every address is its host's for good.
    """
    farm, victim = infection.farm, infection.infected.knows.siblings[0]
    assert offered(infection) == victim.ip
    kind = frames.option(53, bytes([frames.DECLINE]))
    named = frames.option(50, frames.address(victim.ip))
    named += frames.option(54, frames.address(str(SERVER.ip)))
    with infection.inside() as infected:  # a lease to refuse: some servers want one
        for asked in (frames.DISCOVER, frames.ASK):
            infected.send(frames.dhcp(victim.hardware, asked, named))
            time.sleep(0.3)
    for seed in range(5):
        infection.play("dhcp.decline", seed)
    for options in (named + kind, b"\0" + kind + named):  # the kind last; and after a pad
        message = frames.bootp(victim.hardware, options)
        packet = frames.udp(frames.NOBODY, frames.ALL, 68, 67, message)
        with infection.inside() as infected:
            infected.send(frames.ethernet(frames.EVERYONE, victim.hardware, frames.IPV4, packet))
    assert offered(infection) == victim.ip
    assert "disabling DHCP static address" not in farm.log.read_text()


def test_an_address_given_back_in_a_sibling_s_name(infection: Infection) -> None:
    """A DHCPRELEASE of a sibling's address, and requests for it under its and other names.

    Before: held well.
    Now: the sibling is offered its address as ever.
    """
    for seed in range(4):
        for name in ("dhcp.release", "dhcp.as-sibling", "dhcp.ask"):
            infection.play(name, seed)
    assert offered(infection) == "10.99.0.12"
