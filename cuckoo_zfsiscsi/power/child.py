"""Runs one short command with a deadline, for drivers that are programs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.environment import for_child
from cuckoo_zfsiscsi.errors import PowerError

POLL = 0.05
"""Seconds between two looks at a wish to cancel."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left behind."""

    code: int
    """Exit code; below 0: the signal that ended it."""
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    secrets: Mapping[str, str],
    install: str,
    deadline: Deadline,
    what: str,
    stdin: str = "",
) -> Outcome:
    """Run a command to its end. It and its children are killed when we stop waiting.

    Args:
        argv: program and arguments: no secrets, every user of the machine sees them.
        secrets: added to the environment that is made for it, which root and its own user alone
            can read.
        install: how to install the program.
        deadline: for all of it.
        what: completes "... took longer than N s".
        stdin: what it reads.

    Raises:
        PowerError: the program can't be started.
        DeadlineExceededError, CancelledError: it was killed.
    """
    deadline.check(what)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=for_child(secrets),
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise PowerError(f"{what}: can't run {argv[0]}: {error.strerror}", fix=install) from None
    with process:
        try:
            unread = stdin or None
            while (output := _output(process, unread)) is None:
                unread = None
                deadline.check(what)
            return Outcome(process.returncode, *output)
        finally:
            if process.returncode is None:  # not reaped, so the number is still its own
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _output(process: subprocess.Popen[str], stdin: str | None) -> tuple[str, str] | None:
    try:
        return process.communicate(stdin, timeout=POLL)
    except subprocess.TimeoutExpired:
        return None
