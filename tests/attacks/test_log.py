"""A guest that drowns what the service has to say."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from cuckoo_zfsiscsi.lab.network import SERVER
from tests.faults.conftest import lab
from tests.faults.small_lab import SmallLab
from tests.netboot.network import inside
from tests.waiting import HANG

__all__ = ["lab"]  # a fixture

Record = Callable[[str, object], None]

NUMBER = 6000
BURST, RATE = 500, 20
"""Warnings that the log takes at once, and a second."""


def test_a_flood_of_lines(lab: SmallLab, record_property: Record) -> None:
    """6,000 requests of a guest, each of which makes a line in the log of the service.

    Before: 85,000 lines in 30 s; journald drops what is beyond 10,000, errors among it.
    Now: 500 at once and 20 a second, then their number; an error is there, and so is who asked for
    what.
    """
    lab.start()
    assert lab.runs, lab.seen()
    begin = time.monotonic()
    with inside(Path("/run/netns") / lab._inside):
        for _ in range(NUMBER):
            with (
                contextlib.suppress(OSError),
                socket.create_connection((str(SERVER.ip), 8471), HANG) as guest,
            ):
                guest.sendall(b"\0\r\n\r\n")
                guest.recv(1000)
    lab.client.reset("pc1")
    lab.wait(lambda: "what=reset host=pc1" in lab.log.read_text(), "the audit line")
    lab.conf.write_text(lab.conf.read_text() + "nonsense = 1\n")
    assert lab._service
    lab._service.send_signal(signal.SIGHUP)
    lab.wait(lambda: "nothing was taken" in lab.log.read_text(), "the error")
    took = time.monotonic() - begin
    lines = lab.log.read_text().splitlines()
    warnings = [line for line in lines if " WARNING " in line]
    record_property("lines", len(warnings))
    assert len(warnings) < BURST + RATE * (took + 1) + 10
    assert [line for line in warnings if "left out of this log" in line] or len(warnings) < BURST
    assert [line for line in lines if "audit: " in line and "what=reset host=pc1" in line]
