"""The worker of a host that is reset at each boot (reset_on = boot): the paper's way, made safe.

Nobody tells the service that such a host is rebooted. It learns of it when iPXE asks for the boot
script; but a guest can ask just the same, and a request may come twice or late. So a request is
a new boot only when the last boot is proved to be over: see _judge(). Else it changes nothing.

A clean disk is armed ahead. Its script is given away once, to the first who asks; only an echo of
a DHCP request gets it again. Every later boot has another disk and another secret.

A run, if someone asks for one, is a power-cycle: power is proved off, so the last boot is over for
sure, and what asks after it was switched on again is the run's boot. Its end is power proved off.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from cuckoo_zfsiscsi.config import Config, HostConfig
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import BootRefusedError, CancelledError, ZfsIscsiError
from cuckoo_zfsiscsi.netboot.describe import script_url
from cuckoo_zfsiscsi.netboot.script import render_once
from cuckoo_zfsiscsi.service.base import Act
from cuckoo_zfsiscsi.service.boot import Boot
from cuckoo_zfsiscsi.service.life import sign_of_life
from cuckoo_zfsiscsi.service.paper_boot import LOGIN, PaperBoot
from cuckoo_zfsiscsi.service.parts import Parts
from cuckoo_zfsiscsi.service.report import BootReport, State

log = logging.getLogger(__name__)

QUIET = 10.0
"""Seconds of silence after which a boot under way is over. Between the firmware's network and that
of the guest nobody answers, and that is no reason to take its disk away."""
JUDGE_TIMEOUT = 20.0
"""Seconds in which it must be found out whether the last boot is over."""
ARM_TIMEOUT = 30.0
TURN = 60.0
"""Seconds that a host lets others go first, at most."""
FOLLOWING, RESETTING = "following the boot", "resetting the disk"


class PaperWorker(PaperBoot):
    """Carries out one step after the other."""

    def __init__(
        self,
        config: HostConfig,
        parts: Parts,
        in_background: Callable[[Callable[[], None]], None],
        whole: Config,
    ) -> None:
        super().__init__(config, parts, in_background)
        network = whole.network_of(config)
        self._script_url = script_url(whole, network)
        self._portal = network.portal_ip, whole.portal_port_of(config)
        self._must_be_off = False
        """Someone has asked for a run or a stop, and power has not been proved off since its end:
        unless it is, the host is not healed."""

    # Called with the lock held.

    def _next(self) -> Act | None:
        now = self._clock.monotonic()
        may_act = not self._reason or now >= self._retry_at
        if self._cut_why and (may_act or self._closing):
            return "cutting power", self._cut
        if self._closing:
            self._refuse(CancelledError("the service is stopping"))
            return None
        if not may_act:
            return None
        if self._state is State.UNKNOWN and self._must_be_off:
            return "cutting power", self._cut
        if self._state in (State.UNKNOWN, State.DIRTY):
            return RESETTING, self._restore
        is_asked = bool(self._asks) and not self._must_pause(now)
        if is_asked or (self._stranger and now >= self._look_at):
            return "looking whether the last boot is over", self._judge
        return self._next_of_boot(now)

    def _next_of_boot(self, now: float) -> Act | None:
        if self._is_awaited():
            if self._due is None and self._state is State.CLEAN:
                return "switching on", self._switch_on
            if self._due is not None and now >= self._due:
                return "booting", self._miss
        elif self._signs.has_stalled(now, is_off=self._state is State.CLEAN):
            return "noting a stalled boot", self._note_no_script
        if self._state is State.BOOTING and now >= self._look_at:
            return FOLLOWING, self._follow
        return None

    def _patience(self) -> float | None:
        now = self._clock.monotonic()
        if self._reason:
            return max(0.0, self._retry_at - now)
        times = []
        if self._stranger or self._state is State.BOOTING:
            times.append(self._look_at - now)
        if self._is_awaited() and self._due is not None:
            times.append(self._due - now)
        if self._asks:
            times.append(self._loop.next_at - now)
        if not times:
            return self._signs.patience(now)
        return max(0.0, min(times))

    def _is_off(self) -> bool:
        return False  # anyone may have switched it on

    def _is_armed(self) -> bool:
        return self._state is State.CLEAN and not self._stranger and not self._cut_why

    def _must_cut(self) -> bool:
        return self._must_be_off and self._state is not State.STOPPING

    # The worker.

    def _cut(self) -> None:
        with self._wake:
            before = self._state
            self._cut_why = ""
            self._set(State.STOPPING)
        self._conclude()
        self._steps.cut(self.config.power_timeout)
        if self._stranger:
            self._steps.delete_flows()  # the disk that is armed goes without a reset
        with self._wake:
            self._refuse(BootRefusedError("its power was cut"))
            self._note_unfinished(before)
            self._stranger = False
            self._must_be_off = self._run is not None
            self._due = None
            is_armed = before is State.CLEAN and not self._has_begun()
            is_armed = is_armed and self._steps.has_image(self._wanted_image)
            self._is_cut(State.CLEAN if is_armed else State.DIRTY)

    def _restore(self) -> None:
        """Fence the last boot's disk, put a clean one in its place, and arm it."""
        self._steps.delete_flows()
        with self._pace.turn(TURN, self._cancel):
            self._restore_now()
        self._in_background(self._tidy)

    def _restore_now(self) -> None:
        steps, parts = self._steps, self._steps.parts
        steps.reset(self._wanted_image, self._cancel)
        disk = steps.disk
        if disk is None:  # pragma: no cover - reset() has set it, or failed
            return
        report = BootReport(
            self.config.label, disk.generation, disk.image, prewarmed=False,
            stages=dict(steps.reset_steps),
        )  # fmt: skip
        boot = Boot(self.config, parts, report)
        export = boot.arm(disk, deadline=Deadline(ARM_TIMEOUT, self._cancel))
        with self._wake:
            self._script = render_once(export, self._script_url)
            self._boot = steps.boot = boot
            if self._reason and not self._overdue:
                self._heal()
            self._set(State.CLEAN)
            if self._asks and not self._stranger and not self._cut_why:
                self._answer()

    def _judge(self) -> None:
        """Is this request a new boot? Only if nothing of the last one lives any more.

        Its session is over, its TCP does not answer, and neither does its guest: whoever asked is
        no guest then, but a machine that was started anew. What can't be found out means no.
        """
        boot = self._boot
        if self._state is not State.CLEAN and boot:
            try:
                self._await_login(boot)
            except CancelledError:
                raise
            except ZfsIscsiError as error:
                log.warning("%s: %s", self.config.label, error)  # the kernel knows better
        quiet = QUIET if self._state is State.BOOTING else 0.0
        parts = self._steps.parts
        with self._pace.turn(TURN, self._cancel):
            deadline = Deadline(JUDGE_TIMEOUT, self._cancel)
            held = partial(
                parts.is_held, *self._portal, self.config.ip, quiet=quiet, deadline=deadline
            )
            alive = sign_of_life(parts, held, deadline)
        if self._stranger and not alive:
            self._steps.delete_flows()
        with self._wake:
            self._look_at = self._clock.monotonic() + LOGIN
            if self._cut_why:  # soon nothing lives: who asks again then is answered
                return
            if alive:
                self._refuse(BootRefusedError(f"it runs, {alive}: this is no new boot"))
                return
            self._stranger = False
            if self._state is not State.CLEAN:
                self._note_unfinished(self._state)
                self._set(State.DIRTY)
            elif self._asks:
                self._answer()

    def _fail(self, error: Exception) -> None:
        with self._wake:  # at once: from here on nobody gets a script
            self._reason = str(error) or repr(error)
            self._refuse(BootRefusedError(f"it is quarantined: {self._reason}"))
        super()._fail(error)
        with self._wake:
            if self._state is State.DIRTY and not self._cut_why:
                self._must_be_off = False
