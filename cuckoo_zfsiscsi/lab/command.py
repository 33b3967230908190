"""Run one program to its end."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cuckoo_zfsiscsi.errors import LabError

HANG = 120.0
"""Seconds after which what takes a moment is given up. It bounds hangs, and never speed."""
LAST_WORDS = 500
"""Characters of what a program said, in a message about it."""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What moves a terminal's cursor, as firmware does."""


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    cwd: Path | None = None,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program; return what it printed. No secrets in argv.

    Args:
        argv: program and arguments.
        timeout: seconds; the program is killed then.
        cwd: where it runs.
        stdin: what it reads.
        env: added to our environment.

    Raises:
        LabError: it is missing, failed, or took too long; with the end of what it said.
    """
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            input=stdin,
            env={**os.environ, "LC_ALL": "C", **(env or {})},
            capture_output=True,
            check=True,
            timeout=timeout,
        )
    except FileNotFoundError as error:
        raise LabError(f"{error.filename} is missing", fix="scripts/setup lab") from None
    except subprocess.TimeoutExpired as error:
        said = tail(error.stderr or error.stdout or b"")
        what = f"{' '.join(argv[:6])} took longer than {timeout:.0f} s: {said}"
        raise LabError(what) from None
    except subprocess.CalledProcessError as error:
        said = tail(error.stderr or error.stdout)
        raise LabError(f"{' '.join(argv[:6])}: status {error.returncode}: {said}") from None
    return done.stdout.decode(errors="replace")


def into(log: Path, argv: Sequence[str]) -> list[str]:
    """Return an argv that runs this one, its output appended to a file.

    A daemon that writes to a pipe of ours ends when we end.
    """
    return ["sh", "-c", 'exec "$@" >>"$0" 2>&1', str(log), *argv]


def tail(said: bytes) -> str:
    """Return the end of what a program said, its last lines as one."""
    text = ESCAPES.sub("", said.decode(errors="replace"))
    lines = [line.strip() for line in text.splitlines()]
    return " / ".join(line for line in lines if line)[-LAST_WORDS:] or "it said nothing"


def last_words(log: Path) -> str:
    """Return the end of a file, its last lines as one."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4 * LAST_WORDS))
            return tail(file.read())
    except OSError as error:
        return f"can't be read: {error.strerror}"
