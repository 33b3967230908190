"""Run one program to its end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cuckoo_zfsiscsi.errors import LabError


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
        raise LabError(f"{error.filename} is missing", fix="scripts/lab --install") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{argv[0]} took longer than {timeout:.0f} s") from None
    except subprocess.CalledProcessError as error:
        said: bytes = error.stderr or error.stdout
        tail = " / ".join(said.decode(errors="replace").split("\n")[-4:]).strip(" /")
        raise LabError(f"{' '.join(argv[:6])}: status {error.returncode}: {tail}") from None
    return done.stdout.decode(errors="replace")


def into(log: Path, argv: Sequence[str]) -> list[str]:
    """Return an argv that runs this one, its output appended to a file.

    A daemon that writes to a pipe of ours ends when we end.
    """
    return ["sh", "-c", 'exec "$@" >>"$0" 2>&1', str(log), *argv]
