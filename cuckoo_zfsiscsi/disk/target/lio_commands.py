"""Commands that are larger than any that a system sends: the kernel tells of them as they arrive.

LIO takes the memory for a command's data when it has the command, and keeps it until the command
has ended: a write whose data does not come, a read whose data nobody takes. It limits how many
commands a session may have under way, and not how large they are: up to 512 MiB each, as many pages
as the largest kmalloc() has entries for (sgl_alloc_order(), lib/scatterlist.c). So a guest that
knows this could have all of the server's memory, and the kernel would end other programs to go on.

No attribute limits it. But there is a tracepoint, with a filter, that says nothing of all others
(include/trace/events/target.h; Documentation/trace/events.rst).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread

from cuckoo_zfsiscsi.connections import TIMEOUT

TRACING = Path("/sys/kernel/tracing")
LARGEST = 16 << 20
"""Bytes of one command: what a zvol says that it takes (Block Limits, SBC-4 6.6.4; zvol_os.c)."""
PERIOD = 0.05
"""Seconds between two looks."""
_EVENT = "events/target/target_sequencer_start"
_BUFFER = "64"
"""KiB for each processor."""
_LINE = re.compile(r" target_sequencer_start: (\S+) -> LUN ")


def initiators(text: str) -> set[str]:
    """Return who sent the commands that lines of the trace tell of."""
    return set(_LINE.findall(text))


class Commands:
    """Watches for them, in a thread of its own.

    Args:
        name: of what is made for it in tracefs; what is left of an earlier one is taken.
        tell: called with the initiator's name of who has sent one.
        tracing: where tracefs is mounted.

    Raises:
        OSError: the kernel can't tell.
    """

    def __init__(self, name: str, tell: Callable[[str], None], tracing: Path = TRACING) -> None:
        self._tell = tell
        self._over = Event()
        with ExitStack() as stack:
            place = tracing / "instances" / name
            place.mkdir(exist_ok=True)
            stack.callback(_remove, place)
            event = place / _EVENT
            (event / "enable").write_text("0")
            (place / "buffer_size_kb").write_text(_BUFFER)
            (event / "filter").write_text(f"data_length > {LARGEST}")
            (event / "enable").write_text("1")
            self._pipe = os.open(place / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
            stack.callback(os.close, self._pipe)
            self._thread = Thread(target=self._work, name="lio-commands", daemon=True)
            self._thread.start()
            self._end = stack.pop_all()

    def close(self) -> None:
        """End it."""
        self._over.set()
        self._thread.join(TIMEOUT)
        self._end.close()

    def _work(self) -> None:
        while not self._over.wait(PERIOD):
            for initiator in sorted(self._seen()):
                self._tell(initiator)

    def _seen(self) -> Iterable[str]:
        with suppress(OSError):  # EAGAIN: nobody has sent one
            return initiators(os.read(self._pipe, 1 << 16).decode(errors="replace"))
        return ()


def _remove(place: Path) -> None:
    with suppress(OSError):  # someone else looks into it
        place.rmdir()
