"""How far a build is: numbered steps, what moves in them, and how long each took here before."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVERY = 15.0
"""Seconds between two lines about a step that lasts."""
RECORD = "durations.json"
"""File beside a cache that keeps how long each step took on this machine."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Count:
    """What grows while a step lasts."""

    look: Callable[[], int]
    """Tells how many there are by now."""
    of: str
    """What they are: "objects"."""
    about: int = 0
    """How many there will be, as far as one can tell; what was counted here before is better."""


class Steps:
    """The steps of one build.

    Nothing is promised of how long they take but what was measured on this machine.

    Args:
        what: is built, as "the guest disk".
        names: of all steps, in their order.
        say: told a line at the beginning of each step, and every EVERY seconds while it lasts; in
            a thread of its own, while the step's thread says nothing.
        cache: folder that keeps the durations.
    """

    def __init__(self, what: str, names: Sequence[str], say: Say, cache: Path) -> None:
        self._what = what
        self._names = list(names)
        self._say = say
        self._record = cache / RECORD
        self._before = _read(self._record)
        self._began = time.monotonic()
        known = [self._before[name]["seconds"] for name in names if name in self._before]
        took = f"took {duration(sum(known))} here the last time"
        never = "never built here, so nobody knows how long it takes"
        say(f"{what}, {len(names)} steps: {took if len(known) == len(names) else never}")

    @contextmanager
    def step(self, name: str, count: Count | None = None) -> Iterator[None]:
        """Do a step, one of the names, in this block.

        Args:
            name: of the step.
            count: what grows meanwhile.
        """
        head = f"{self._names.index(name) + 1}/{len(self._names)}"
        before = self._before.get(name)
        last_time = f" ({duration(before['seconds'])} the last time)" if before else ""
        self._say(f"{head}, {self._elapsed()}: {name}{last_time}")
        began, done = time.monotonic(), threading.Event()

        def tell() -> None:
            while not done.wait(EVERY):
                self._say(f"{head}, {self._elapsed()}: {name}{_how_many(count, before)}")

        thread = threading.Thread(target=tell, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        seconds = round(time.monotonic() - began, 1)
        self._keep(name, {"seconds": seconds, "count": _look(count)})

    def end(self) -> None:
        """Say that all of it is done."""
        self._say(f"{self._what}: built in {self._elapsed()}")

    def _elapsed(self) -> str:
        return duration(time.monotonic() - self._began)

    def _keep(self, name: str, facts: dict[str, Any]) -> None:
        made = self._record.with_suffix(".made")
        with contextlib.suppress(OSError):  # whoever builds next knows less, that is all
            made.write_text(json.dumps({**_read(self._record), name: facts}, indent=1))
            made.rename(self._record)


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def files(folder: Path, end: str = "") -> int:
    """Count the files in a tree whose names end so."""
    return sum(name.endswith(end) for _, _, names in os.walk(folder) for name in names)


def _how_many(count: Count | None, before: dict[str, Any] | None) -> str:
    found = _look(count)
    if count is None or found is None:
        return ""
    total = f" of {before['count']}" if before and before["count"] else ""
    if not total and count.about:
        total = f" of about {count.about}"
    return f", {found}{total} {count.of}"


def _look(count: Count | None) -> int | None:
    with contextlib.suppress(OSError):
        return count.look() if count else None
    return None


def _read(record: Path) -> dict[str, dict[str, Any]]:
    """Return what is known of earlier builds; what can't be read is not."""
    try:
        found = json.loads(record.read_text())
        return {name: {"seconds": float(one["seconds"]), "count": one["count"]}
                for name, one in found.items()}  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
