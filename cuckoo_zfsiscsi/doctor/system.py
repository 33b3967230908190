"""The server as the checks see it: files below a root, and commands. Tests put others in place."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cuckoo_zfsiscsi.environment import for_child, search_path
from cuckoo_zfsiscsi.errors import ZfsIscsiError

TIMEOUT = 15.0
"""Seconds for one command."""
_TIME_ERROR = 5


class StuckError(ZfsIscsiError):
    """A command does not end."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str = ""

    @property
    def reason(self) -> str:
        """The first line that it complained with, or its status."""
        return next(iter(self.err.strip().splitlines()), f"status {self.code}")

    def pairs(self, separator: str) -> dict[str, str]:
        """Return lines of NAME SEPARATOR VALUE as a dictionary."""
        found = (line.partition(separator) for line in self.out.splitlines())
        return {name.strip(): value.strip() for name, _, value in found}


def run_command(argv: Sequence[str]) -> Answer | None:
    """Run a command that changes nothing.

    Returns:
        What it said; None if it is not installed.

    Raises:
        StuckError: it does not end. It is killed but not waited for: with a suspended pool it
            stands in the kernel, and does not die.
    """
    program = shutil.which(argv[0], path=search_path())
    if program is None:
        return None
    process = subprocess.Popen(
        [program, *argv[1:]], env=for_child(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=1.0)
        command = " ".join(argv)
        raise StuckError(
            f"`{command}` does not end", fix="dmesg | tail -50; zpool status -x"
        ) from None
    return Answer(process.returncode, out, err)


def clock_is_synchronised() -> bool:
    """Ask the kernel whether somebody keeps its clock right, adjtimex(2)."""
    nothing_to_change = ctypes.create_string_buffer(512)  # struct timex, about 208 bytes
    return bool(ctypes.CDLL(None).adjtimex(nothing_to_change) != _TIME_ERROR)


@dataclass(frozen=True)
class System:
    """One server."""

    root: Path = Path("/")
    run: Callable[[Sequence[str]], Answer | None] = run_command
    clock: Callable[[], bool] = clock_is_synchronised
    python: Path = Path(sys.executable)
    """What the service runs with: the doctor is in the same environment."""
    is_root: bool = field(default_factory=lambda: os.geteuid() == 0)

    def path(self, path: str | Path) -> Path:
        """Return where an absolute path is."""
        return self.root / str(path).lstrip("/")

    def read(self, path: str | Path) -> str | None:
        """Return the stripped text of a file; None if it is missing or can't be read now."""
        try:
            return self.path(path).read_bytes().decode("utf-8", "replace").strip()
        except OSError:
            return None

    def number(self, path: str | Path) -> int | None:
        """Return the number in a file."""
        text = self.read(path)
        try:
            return int(text or "")
        except ValueError:
            return None

    def exists(self, path: str | Path) -> bool:
        """Tell whether there is something."""
        return self.path(path).exists()

    def names(self, path: str | Path) -> list[str]:
        """Return what is in a directory; nothing if there is none."""
        try:
            return sorted(entry.name for entry in self.path(path).iterdir())
        except OSError:
            return []

    @property
    def release(self) -> str:
        """The running kernel."""
        return self.read("/proc/sys/kernel/osrelease") or ""

    @property
    def distribution(self) -> str:
        """`debian`, `ubuntu`, ..., os-release(5)."""
        lines = (self.read("/etc/os-release") or "").splitlines()
        found = dict(line.split("=", 1) for line in lines if "=" in line)
        return found.get("ID", "").strip('"')
