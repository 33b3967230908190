"""Collects what is seen of one arming, until its boot is found to be its host's alone, or void."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from cuckoo_zfsiscsi.clock import Clock
from cuckoo_zfsiscsi.disk.target import Session
from cuckoo_zfsiscsi.service.chain import Login, Trace, Verdict, judge

MOST_LOGINS = 64
"""Sessions that are kept: more than any boot may have."""


class Arming:
    """Safe from any thread. What has made it void once stays the reason.

    Args:
        address: IP address of the host.
        clock: that moments are told by.
        floor: seconds from power-on before which its firmware asks for no script.
        sees_dhcp: whoever gives the host its address tells us.
        reboots: how often its image's system may reboot before it is ready.
    """

    def __init__(
        self,
        address: str,
        clock: Clock,
        *,
        floor: float = 0.0,
        sees_dhcp: bool = False,
        reboots: int = 0,
    ) -> None:
        self._address, self._floor, self._sees_dhcp = address, floor, sees_dhcp
        self._reboots = reboots
        self._clock = clock
        self._lock = threading.Lock()
        self._begun: float | None = None
        self._asked: list[float] = []
        self._logins: dict[int, Login] = {}
        self._dhcp: float | None = None
        self._boot_file: float | None = None
        self._void = ""
        self._is_over = False

    def begin(self, at: float) -> None:
        """Note when power-on was requested (monotonic seconds)."""
        with self._lock:
            self._begun = at

    def ask(self) -> tuple[Verdict, str]:
        """Take a request for the script. It is given if this is not VOID; WHOLE: it is too late.

        Returns:
            As judge(). The first request leaves it OPEN, whatever else may have come already.
        """
        with self._lock:
            if self._is_over:
                return Verdict.WHOLE, ""
            if len(self._asked) <= 1 + self._reboots:  # one too many decides already
                self._asked.append(self._age(self._clock.monotonic()))
            return self._judge()

    def see(self, sessions: Iterable[Session]) -> None:
        """Take what sessions there are now."""
        with self._lock:
            for one in sessions if not self._is_over else ():
                if one.number not in self._logins and len(self._logins) < MOST_LOGINS:
                    login = Login(one.number, one.address, bool(self._asked))
                    self._logins[one.number] = login

    @property
    def numbers(self) -> set[int]:
        """The target's numbers of the sessions that were seen until it was over."""
        with self._lock:
            return set(self._logins)

    def note(self, stage: str, at: float) -> None:
        """Take what a server saw (monotonic seconds)."""
        with self._lock:
            age = self._age(at)
            if age < 0 or self._begun is None:
                return
            if stage == "dhcp" and self._dhcp is None:
                self._dhcp = age
            elif stage == "tftp":
                self._boot_file = age

    def judge(self) -> tuple[Verdict, str]:
        """Return what is shown so far, as chain.judge()."""
        with self._lock:
            return self._judge()

    def conclude(self) -> tuple[Verdict, str]:
        """As judge(); if all is there, it is over: no later request belongs to this."""
        with self._lock:
            verdict, why = self._judge()
            self._is_over = self._is_over or verdict is Verdict.WHOLE
            return verdict, why

    def _judge(self) -> tuple[Verdict, str]:
        if self._void:
            return Verdict.VOID, self._void
        verdict, why = judge(
            Trace(
                address=self._address,
                now=self._age(self._clock.monotonic()),
                asked=tuple(self._asked),
                logins=tuple(self._logins.values()),
                floor=self._floor,
                sees_dhcp=self._sees_dhcp,
                dhcp=self._dhcp,
                boot_file=self._boot_file,
                reboots=self._reboots,
            )
        )
        if verdict is Verdict.VOID:
            self._void = why
        return verdict, why

    def _age(self, at: float) -> float:
        """Return seconds since the power-on request; 0 before it."""
        return 0.0 if self._begun is None else at - self._begun
