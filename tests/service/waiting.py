"""Waits for a host's state, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable

from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.paper import PaperHost
from cuckoo_zfsiscsi.service.report import State
from tests.waiting import wait

SOON = 20.0
"""Seconds that anything may take here."""


def boot_within(host: Host, seconds: float) -> None:
    """Give a host that runs another boot_timeout."""
    host._steps.config = host.config.model_copy(update={"boot_timeout": seconds})


def wait_for(host: Host | PaperHost, *states: State) -> None:
    end = time.monotonic() + SOON
    while host.report().state not in states:
        assert time.monotonic() < end, f"still {host.report()}"
        time.sleep(0.005)


def until(true: Callable[[], bool], what: str) -> None:
    """Wait until something is true."""
    wait(true, SOON, f"never: {what}")


def quiet(host: Host | PaperHost, state: State) -> None:
    """Wait until the host is in this state and does nothing."""
    end = time.monotonic() + SOON
    while host.report().state is not state or host.report().step:
        assert time.monotonic() < end, f"still {host.report()}"
        time.sleep(0.005)
