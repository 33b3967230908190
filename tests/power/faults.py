"""The fault table: each row a real protocol peer that misbehaves, and what the service makes of it.

bench/power_faults prints it in real time; test_faults.py runs it eight times as quick.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from cuckoo_zfsiscsi.config import PowerUrl
from cuckoo_zfsiscsi.lab import certificate
from cuckoo_zfsiscsi.lab.redfish import write_users
from cuckoo_zfsiscsi.lab.wake import is_magic
from cuckoo_zfsiscsi.power import Driver, ipmi, pdu, wol
from tests.clocks import RealClock
from tests.power.bmc import Bmc
from tests.power.played import Pace, Played, follow
from tests.power.plug import Plug
from tests.power.redfish import FakeRedfish
from tests.power.relay import Relay, every_third_lost, no_free_session
from tests.power.stage import Outcome, Stage

MAC = "00:11:22:33:44:55"
INTERVAL = 0.2
"""Seconds between two commands to one device."""


class Peers(Stage):
    """The two hosts of one row, and the real peers between them and the service."""

    def __init__(self, folder: Path, pace: Pace, undo: ExitStack) -> None:
        super().__init__(pace, RealClock())
        self.folder, self.undo = folder, undo

    def redfish(self, *second: Driver) -> FakeRedfish:
        """Put a Redfish BMC in front of each host; return that of the first.

        Args:
            second: further ways to switch the first host.
        """
        made = []
        for host in (self.one, self.other):
            bmc = FakeRedfish(self.folder / host.label)
            bmc.systems.effect = partial(_switch, host)
            self.secrets.append(bmc.password)
            self.undo.enter_context(bmc.serving())
            driver: Driver = bmc.driver(system="1", fingerprint=bmc.fingerprint)
            ways = [driver, *second] if host is self.one else [driver]
            host.connect(ways, ways, INTERVAL)
            made.append(bmc)
        self.count = lambda: len(made[0].requests)
        return made[0]

    def ipmi(self, *, relay: bool = False) -> tuple[Bmc, Relay | None]:
        """Put an IPMI BMC in front of each host; return that of the first, and its wire."""
        made: list[tuple[Bmc, Relay | None]] = []
        for host in (self.one, self.other):
            bmc = Bmc(self.folder / host.label)
            bmc.start()
            self.secrets.append(bmc.password)
            self.undo.callback(bmc.stop)
            ended = threading.Event()
            self.undo.callback(ended.set)
            path = bmc.folder / "power"
            threading.Thread(target=follow, args=(path, host.switch, ended), daemon=True).start()
            wire = Relay(bmc.port) if relay else None
            if wire:
                self.undo.enter_context(wire.running())
            url = PowerUrl(
                "ipmi", "127.0.0.1", "admin", wire.port if wire else bmc.port,
                {"cipher": "3", "timeout": "1", "tries": "4"},
            )  # fmt: skip
            driver = ipmi.connect(url, SecretStr(bmc.password))
            host.connect([driver], [driver], INTERVAL)
            made.append((bmc, wire))
        self.count = lambda: len(made[0][0].commands())
        return made[0]

    def wake_and_plug(self) -> tuple[Plug, Card]:
        """Give each host a network card that wakes it and a plug that feeds it."""
        made = []
        for host in (self.one, self.other):
            plug, card = Plug(), Card(host)
            plug.effect = partial(_feed, host)
            self.undo.enter_context(plug.serving())
            card.start(self.undo)
            url = PowerUrl("wol", "127.0.0.1", None, card.port, {"mac": MAC})
            host.connect([wol.connect(url, None)], [pdu.connect(plug.url(), None)], INTERVAL)
            made.append((plug, card))
        self.count = lambda: len(made[0][0].asked) + made[0][1].heard
        return made[0]


def _switch(host: Played, _system: str, on: bool) -> None:
    host.switch(on)


def _feed(host: Played, _outlet: int, on: bool) -> None:
    """Let the machine have mains, with which it stays off, or none."""
    if not on:
        host.switch(False)


class Card:
    """A network card that hears magic packets on a UDP port."""

    def __init__(self, host: Played) -> None:
        self._host = host
        self.lose = 0
        self.heard = 0
        self._wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._wire.bind(("127.0.0.1", 0))
        self._wire.settimeout(0.05)
        self.port: int = self._wire.getsockname()[1]

    def start(self, undo: ExitStack) -> None:
        ended = threading.Event()
        thread = threading.Thread(target=self._listen, args=(ended,), daemon=True)
        thread.start()
        undo.callback(self._wire.close)
        undo.callback(thread.join)
        undo.callback(ended.set)

    def _listen(self, ended: threading.Event) -> None:
        mac = bytes.fromhex(MAC.replace(":", ""))
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                if is_magic(bytes(12) + self._wire.recv(2048), mac):
                    self.heard += 1
                    if self.heard > self.lose:
                        self._host.switch(True)


def timeout(stage: Peers) -> None:
    bmc, _ = stage.ipmi()
    frozen = bmc.frozen()
    stage.begin, stage.end = frozen.__enter__, lambda: frozen.__exit__(None, None, None)


def wrong_password(stage: Peers) -> None:
    bmc = stage.redfish()
    users = bmc.folder / "users"
    stage.begin = lambda: write_users(users, "admin", "another")
    stage.end = lambda: write_users(users, "admin", bmc.password)


def refused_session(stage: Peers) -> None:
    _, wire = stage.ipmi(relay=True)
    assert wire

    def begin() -> None:
        wire.pass_on = no_free_session
        threading.Timer(8 * stage.pace.scale, setattr, (wire, "pass_on", lambda p: p)).start()

    stage.begin = begin


def stays_on(stage: Peers) -> None:
    systems = stage.redfish().systems
    stage.begin = lambda: setattr(systems, "stays_on", True)
    stage.end = lambda: setattr(systems, "stays_on", False)


def lies_of_off(stage: Peers) -> None:
    systems = stage.redfish().systems

    def begin() -> None:
        systems.stays_on = systems.says_off = True

    def end() -> None:
        systems.stays_on = systems.says_off = False

    stage.begin, stage.end = begin, end


def lies_beside_a_plug(stage: Peers) -> None:
    """Do as before, but the host has a second way: power = redfish, pdu."""
    plug = Plug()
    stage.undo.enter_context(plug.serving())
    plug.effect = partial(_feed, stage.one)
    systems = stage.redfish(pdu.connect(plug.url(), None)).systems

    def begin() -> None:
        systems.stays_on = systems.says_off = True

    def end() -> None:
        systems.stays_on = systems.says_off = False

    stage.begin, stage.end = begin, end


def stays_off(stage: Peers) -> None:
    systems = stage.redfish().systems
    stage.begin = lambda: setattr(systems, "stays_off", True)
    stage.end = lambda: setattr(systems, "stays_off", False)


def crashes(stage: Peers) -> None:
    """Answer one more request, and then none for 90 s."""
    bmc = stage.redfish()
    answered = bmc.answer
    left = [float("inf")]

    def answer(*arguments: Any) -> Iterable[bytes]:
        left[0] -= 1
        if left[0] == 0:
            bmc.silent_until = time.monotonic() + 90 * stage.pace.scale
        return answered(*arguments)

    bmc.answer = answer  # type: ignore[method-assign,assignment]
    stage.begin = lambda: left.__setitem__(0, 2)
    stage.end = lambda: time.sleep(max(0.0, bmc.silent_until - time.monotonic()))


def slow(stage: Peers) -> None:
    bmc = stage.redfish()
    stage.begin = lambda: setattr(bmc, "delay", 25 * stage.pace.scale)
    stage.end = lambda: setattr(bmc, "delay", 0.0)


def rate_limited(stage: Peers) -> None:
    """Refuse, with 429, a request within 2 s after the one before."""
    bmc = stage.redfish()
    stage.begin = lambda: setattr(bmc, "least_pause", 2 * stage.pace.scale)
    stage.end = lambda: setattr(bmc, "least_pause", 0.0)


def lossy(stage: Peers) -> None:
    _, wire = stage.ipmi(relay=True)
    assert wire
    stage.begin = lambda: setattr(wire, "pass_on", every_third_lost())
    stage.end = lambda: setattr(wire, "pass_on", lambda packet: packet)


def wrong_certificate(stage: Peers) -> None:
    bmc = stage.redfish()
    kept = [(bmc.folder / name).read_bytes() for name in ("cert", "key")]
    sent: list[int] = []

    def begin() -> None:
        certificate.make(bmc.folder, "DNS:somebody-else")
        bmc.show_certificate()
        sent.append(len(bmc.requests))

    def end() -> None:
        assert len(bmc.requests) == sent[0], "something was said to a stranger"
        for name, content in zip(("cert", "key"), kept, strict=True):
            (bmc.folder / name).write_bytes(content)
        bmc.show_certificate()

    stage.begin, stage.end = begin, end


def http_500(stage: Peers) -> None:
    bmc = stage.redfish()
    stage.begin = lambda: setattr(bmc, "status", [500, 500, 500])


def wrong_outlet(stage: Peers) -> None:
    """Let the configured outlet feed another machine."""
    plug, _ = stage.wake_and_plug()
    rightly = plug.effect
    stage.begin = lambda: setattr(plug, "effect", lambda outlet, on: None)
    stage.end = lambda: setattr(plug, "effect", rightly)


def wake_lost(stage: Peers) -> None:
    _, card = stage.wake_and_plug()
    stage.begin = lambda: setattr(card, "lose", card.heard + 3)


@dataclass(frozen=True)
class Row:
    """One fault."""

    name: str
    peer: str
    make: Callable[[Peers], None]
    proved: bool
    """Whether the service masters it, before its deadline; else the host is quarantined."""
    says: str = ""
    """Words of its answer when it does not."""
    action: str = "off"


ROWS = (
    Row("timeout", "ipmi_sim", timeout, False, "does not answer|no answer"),
    Row("wrong password", "redfish", wrong_password, False, "refuses the user or the password"),
    Row("refused session", "ipmi_sim", refused_session, True),
    Row("says off, stays on", "redfish", stays_on, False, "is still on"),
    Row("says and tells off, stays on", "redfish", lies_of_off, False, "the host lives"),
    Row("the same beside a plug", "redfish, pdu", lies_beside_a_plug, True),
    Row("says on, stays off", "redfish", stays_off, False, "is still off", "on"),
    Row("crashes for 90 s", "redfish", crashes, False, "does not answer|no answer"),
    Row("answers after 25 s", "redfish", slow, True),
    Row("rate-limited", "redfish", rate_limited, True),
    Row("drops every third packet", "ipmi_sim", lossy, False, "does not answer|no answer"),
    Row("certificate wrong", "redfish", wrong_certificate, False, "certificate is not trusted"),
    Row("HTTP 500", "redfish", http_500, True),
    Row("outlet feeds another host", "wol, pdu", wrong_outlet, False, "the host lives"),
    Row("WoL packet lost", "wol, pdu", wake_lost, True, "", "on"),
)


def play(row: Row, folder: Path, pace: Pace, secrets: list[str] | None = None) -> Outcome:
    """Play one row to its end.

    Args:
        row: of the table.
        folder: empty, for it alone.
        pace: how quickly time goes.
        secrets: the row's passwords are appended, for who looks for them elsewhere.
    """
    with ExitStack() as undo:
        stage = Peers(folder, pace, undo)
        stage.secrets = [] if secrets is None else secrets
        row.make(stage)
        undo.callback(stage.close)
        return stage.perform(row.action)


def check(row: Row, outcome: Outcome) -> None:
    """Assert that the service did of a fault what its row says, and healed."""
    assert outcome.faults == []
    if row.proved:
        assert outcome.said == "done", outcome
    else:
        assert re.search(row.says, outcome.said), outcome
        assert outcome.state == "quarantined", outcome
    assert outcome.healed_s is not None, outcome
    assert outcome.final == ("running" if row.proved and row.action == "on" else "clean")
