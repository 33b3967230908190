"""A server's own judgement of a configuration, before it is used."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.environment import for_child
from cuckoo_zfsiscsi.errors import NetbootError

TIMEOUT = 10.0
"""Seconds."""


def check(
    argv: Sequence[str], deadline: Deadline, *, install: str, fix: str = "", stdin: str = ""
) -> str:
    """Run a server's checker; return what it printed.

    Args:
        argv: program and arguments.
        deadline: TIMEOUT is kept too.
        install: how to install the program.
        fix: what to do if it refuses; by default, to run it by hand.
        stdin: what it reads there.

    Raises:
        NetbootError: it is missing, does not end, or does not like the configuration.
        DeadlineExceededError, CancelledError: as Deadline.check().
    """
    command = shlex.join(argv)
    try:
        result = subprocess.run(
            argv,
            env=for_child(),
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline.within(TIMEOUT).remaining,
        )
    except FileNotFoundError:
        raise NetbootError(f"{argv[0]} is not installed", fix=install) from None
    except subprocess.TimeoutExpired:
        deadline.check(command)
        raise NetbootError(f"{argv[0]} does not end: {command}", fix=command) from None
    if result.returncode:
        said = " / ".join(line.strip() for line in _words(result.stdout + result.stderr)[-8:])
        raise NetbootError(f"{argv[0]} refuses its configuration: {said}", fix=fix or command)
    return result.stdout


def _words(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.strip()]
