"""Waits for a host's state, by the clock that the host goes by."""

from __future__ import annotations

from typing import cast

from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.paper import PaperHost
from cuckoo_zfsiscsi.service.report import State
from tests.clocks import AnyClock


def boot_within(host: Host, seconds: float) -> None:
    """Give a host that runs another boot_timeout."""
    host._steps.config = host.config.model_copy(update={"boot_timeout": seconds})


def wait_for(host: Host | PaperHost, *states: State) -> None:
    """Wait until the host is in one of these states, whatever it does there."""
    names = " or ".join(state.value for state in states)
    clock_of(host).until(lambda: host.report().state in states, names, host.report)


def quiet(host: Host | PaperHost, state: State) -> None:
    """Wait until the host is in this state and does nothing."""

    def is_quiet() -> bool:
        report = host.report()
        return report.state is state and not report.step

    clock_of(host).until(is_quiet, f"{state.value}, and at rest", host.report)


def clock_of(host: Host | PaperHost) -> AnyClock:
    """Return the clock that the test has given it."""
    return cast("AnyClock", host._clock)
