"""What a host itself shows of its power: signs of life, and the first sign of a boot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cuckoo_zfsiscsi.at_once import at_once
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError, PowerError
from cuckoo_zfsiscsi.packets import Card
from cuckoo_zfsiscsi.power import signs
from cuckoo_zfsiscsi.power.answers import Answerer, Verdict, Whose, judge
from cuckoo_zfsiscsi.readiness import session
from cuckoo_zfsiscsi.readiness.lookup import find_probe

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from cuckoo_zfsiscsi.config import Config, HostConfig

LOOK = 0.4
"""Seconds in which a host that lives, and hides nothing, answers."""
PAUSE = 0.2
"""Seconds between two questions to a guest that refuses at once."""
PROXY_LOOK = 0.3
"""Seconds to find out whether a stranger answers for other addresses, too."""
NEIGHBOURS = 3
"""Other addresses that are asked for then, at most, besides one that nobody has."""
VERBS = {
    "arp": "answers ARP",
    "icmp": "answers ping",
    "rpc": "answers RPC",
    "agent": "answers as its agent",
}
BY_CARD = ("arp", "icmp")
"""Kinds that tell the card of who has answered."""
WORDS = {
    "rpc": "its RPC answers",
    "agent": "its agent answers",
    "session": "its iSCSI session goes on",
}
AFTER_FENCE = "it answers the loss of its iSCSI session"


@dataclass(frozen=True)
class Life:
    """What one look has seen. It is true if the host shows that it lives."""

    signs: dict[str, str] = field(default_factory=dict)
    """Each sign of life by its kind, for people."""
    others: tuple[str, ...] = ()
    """Who answered in the host's place, for people; that is no sign of its life."""

    def __bool__(self) -> bool:
        return bool(self.signs)

    def __str__(self) -> str:
        return next(iter(self.signs.values()), "")

    def beyond(self, before: Life) -> Life:
        """Return it without the kinds of signs that there were before."""
        new = {kind: sign for kind, sign in self.signs.items() if kind not in before.signs}
        return Life(new, self.others)


Heard = Callable[[], Life]


class Witness(Protocol):
    """Sees one host from outside."""

    def look(self, *, seconds: float = LOOK, deadline: Deadline) -> Life:
        """Look for signs of life.

        Args:
            seconds: to look; a host that is silent so long has shown nothing.
            deadline: for the look.

        Raises:
            PowerError: it can't be looked for.
            DeadlineExceededError, CancelledError: the look was not finished.
        """
        ...

    def boot(self, since: float) -> str:
        """Return the first sign of a boot after this moment (monotonic seconds), or ""."""
        ...

    def listening(self) -> AbstractContextManager[Heard | None]:
        """Listen while the host's session is taken from it: a kernel that lives answers.

        Yields:
            What tells what was heard until now; None: nobody listens.

        Raises:
            PowerError: it can't be listened for.
        """
        ...


class Nobody:
    """A witness who sees nothing, where the power device's word alone counts."""

    def look(self, *, seconds: float = LOOK, deadline: Deadline) -> Life:
        """As Witness has it."""
        deadline.check(f"a look of {seconds:g} s")
        return Life()

    def boot(self, since: float) -> str:  # noqa: ARG002 - sees nothing
        """As Witness has it."""
        return ""

    def listening(self) -> AbstractContextManager[Heard | None]:
        """As Witness has it."""
        return nullcontext()


Accuse = Callable[[str, str], None]
"""Called with a MAC address and what it has done, in one line."""


class HostWitness:
    """Implements Witness, as the host's section has it.

    Args:
        config: of all hosts.
        host: that is looked at.
        accuse: hears who speaks in its place.
        is_off: tells whether another host is proved to be off, by its label. No by default, of
            all of them: nobody knows.
    """

    def __init__(
        self,
        config: Config,
        host: HostConfig,
        accuse: Accuse = lambda _mac, _what: None,
        is_off: Callable[[str], bool] = lambda _label: False,
    ) -> None:
        self._host = host
        self._network = config.network_of(host)
        self._card = Card(self._network.interface, host.mac)
        self._ports = {"rpc": host.rpc_port, "agent": host.agent_port}
        self._port = config.portal_port_of(host)
        others = [one for one in config.hosts if one is not host and one.label != host.label]
        self._siblings = {one.mac: one.label for one in others}
        self._neighbours = [one.ip for one in others if one.network == host.network]
        self._gateway = config.default_route(host).gateway
        self._accuse, self._is_sibling_off = accuse, is_off
        self._lock = threading.Lock()
        self._booted: tuple[float, str] = (float("-inf"), "")

    def note(self, stage: str, at: float) -> None:
        """Record that a server saw the host at a stage of its boot (monotonic seconds)."""
        with self._lock:
            self._booted = (at, stage)

    def boot(self, since: float) -> str:
        """As Witness has it."""
        with self._lock:
            at, stage = self._booted
        return f"{stage} request" if at > since else ""

    def look(self, *, seconds: float = LOOK, deadline: Deadline) -> Life:
        """As Witness has it. All kinds at the same time."""
        what = f"a look at {self._host.label}"
        deadline.check(what)
        kinds: tuple[str, ...] = self._host.power_signs
        seconds = min(seconds, deadline.remaining)
        calls = [self._ways(kind, seconds, deadline) for kind in kinds]
        looks = zip(kinds, at_once(calls, deadline.clock, "sign"), strict=True)
        found = {kind: self._result(kind, look) for kind, look in looks}
        deadline.check(what)
        life = self._judge({kind: who for kind, who in found.items() if kind in BY_CARD}, Life())
        rest = {kind: who for kind, who in found.items() if who and kind not in BY_CARD}
        if life.others and not life:
            # What the kernel has asked, who speaks in the host's place may have answered
            asked = {kind: self._connect(kind, seconds) for kind in rest if kind in VERBS}
            deadline.check(what)
            life = self._judge(asked, life)
            rest = {kind: who for kind, who in rest.items() if kind not in asked}
        return Life(life.signs | {kind: WORDS[kind] for kind in rest}, life.others)

    @contextmanager
    def listening(self) -> Iterator[Heard | None]:
        """As Witness has it."""
        host, portal = self._host, self._network.portal_ip
        if "session" not in host.power_signs:
            yield None
            return
        with ExitStack() as stack:
            try:
                heard = stack.enter_context(session.listening(portal, self._port, host.ip))
            except OSError as error:
                raise self._unable("session", error) from None
            yield lambda: Life({"session": AFTER_FENCE} if heard() else {})

    def _judge(self, found: dict[str, frozenset[str]], life: Life) -> Life:
        """Return what was seen, with the answers that were found: signs of life, or of others.

        Args:
            found: the cards that have answered, by kind.
            life: what was seen before.
        """
        seen, others = dict(life.signs), list(life.others)
        for kind, who in found.items():
            for mac in sorted(who, key=lambda mac: mac != self._card.mac):  # its own goes first
                answerer, name = self._know(mac)
                if judge(answerer) is Verdict.LIVES:
                    is_own = answerer.whose is Whose.OWN
                    said = f"it {VERBS[kind]} (from {mac})"
                    seen.setdefault(kind, said if is_own else f"{name} {VERBS[kind]} for it")
                    continue
                others.append(f"{name} {VERBS[kind]} for it")
                self._accuse(mac, f"{VERBS[kind]} for {self._host.label}, {self._host.ip}")
        return Life(seen, tuple(dict.fromkeys(others)))

    def _connect(self, kind: str, seconds: float) -> frozenset[str]:
        """Ask the host's own card for a connection, past all ARP."""
        own = self._network.address.ip
        port = self._ports[kind]
        try:
            return signs.connect(self._card, own, self._host.ip, port, seconds)
        except OSError as error:
            raise self._unable(kind, error) from None

    def _know(self, mac: str) -> tuple[Answerer, str]:
        """Find out what there is to know of who answers; and how people call it."""
        if mac == self._card.mac:
            return Answerer(Whose.OWN), ""
        if label := self._siblings.get(mac):
            is_off = self._is_sibling_off(label)
            name = f"{mac}, the card of {label}" + (", which is off," if is_off else ",")
            return Answerer(Whose.SIBLING, is_off), name
        others = self._other_addresses(mac)
        name = f"{mac}, no host's card" + (", which answers for others too," if others else ",")
        return Answerer(Whose.OTHER, others=others), name

    def _other_addresses(self, mac: str) -> int:
        """Count the addresses, of a few, for which a card answers ARP besides the host's."""
        own, network = self._network.address.ip, self._network.address.network
        taken = {own, self._network.portal_ip, self._host.ip, *self._neighbours, self._gateway}
        unused = int(network.broadcast_address) - 1
        asked = self._neighbours[:NEIGHBOURS]
        asked += [self._gateway] if self._gateway and self._gateway != own else []
        kind = type(own)
        while unused > int(network.network_address) and kind(unused) in taken:
            unused -= 1
        asked.append(kind(unused))
        return sum(mac in self._arp(address, PROXY_LOOK) for address in asked)

    def _arp(self, address: IPv4Address, seconds: float) -> frozenset[str]:
        return signs.arp(self._card, self._network.address.ip, address, seconds)

    def _result(self, kind: str, look: Future[frozenset[str]]) -> frozenset[str]:
        try:
            return look.result()
        except OSError as error:
            raise self._unable(kind, error) from None

    def _unable(self, kind: str, error: OSError) -> PowerError:
        return PowerError(
            f"{self._host.label}: {kind} can't be looked for: {error.strerror or error}",
            fix=f"as root? is {self._network.interface} up? or change power_signs",
        )

    def _ways(self, kind: str, seconds: float, deadline: Deadline) -> Callable[[], frozenset[str]]:
        """Return what looks for one kind; it returns the cards that were heard."""
        host, own = self._host, self._network.address.ip
        if kind == "arp":
            return lambda: self._arp(host.ip, seconds)
        if kind == "icmp":
            return lambda: signs.ping(self._card, own, host.ip, seconds)
        ask = self._is_session_heard if kind == "session" else self._asker(kind)

        def heard() -> frozenset[str]:
            try:
                return frozenset({self._card.mac} if ask(seconds, deadline) else ())
            except (CancelledError, DeadlineExceededError):  # told by the caller
                return frozenset()

        return heard

    def _is_session_heard(self, seconds: float, deadline: Deadline) -> bool:
        portal = self._network.portal_ip
        return session.is_heard(
            portal,
            self._port,
            self._host.ip,
            seconds=seconds,
            card=self._card,
            deadline=deadline,
        )

    def _asker(self, kind: str) -> Callable[[float, Deadline], bool]:
        port = self._ports[kind]
        probe = find_probe(kind)

        def ask(seconds: float, deadline: Deadline) -> bool:
            looking = deadline.within(seconds)
            while True:
                if probe(str(self._host.ip), port, deadline=looking).heard:
                    return True
                looking.sleep(PAUSE, f"{kind} of {self._host.label}")

        return ask
