"""A copy of scripts/ in a tree of its own, where apt, dpkg and pip only pretend."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
APT = """\
echo "apt-get $*" >>"$TREE/called"
[ "$2" = install ] || exit 0
[ -x /usr/sbin/policy-rc.d ] || echo "services may start"
echo "Get:1 some list"
echo "Unpacking thing (1.0) ..."
while [ -e "$TREE/wait" ]; do sleep 0.1; done
exit "$(cat "$TREE/apt-ends-with" 2>/dev/null || echo 0)"
"""
PYTHON = """\
echo "python $*" >>"$TREE/called"
echo "Collecting thing"
exit "$(cat "$TREE/pip-ends-with" 2>/dev/null || echo 0)"
"""
INSTALLED = """\
[ -e "$TREE/all-installed" ] && echo installed
"""
IN_A_NAMESPACE = """\
mount -t tmpfs none /usr/sbin
trap : INT
"$0" "$@"
code=$?
ls /usr/sbin
exit $code
"""
"""Runs a script; then says what it left where Debian looks whether services may start."""


class Tree:
    """The tree; it is empty but for what the scripts need.

    Args:
        at: an empty directory.
    """

    def __init__(self, at: Path) -> None:
        self.at = at
        shutil.copytree(ROOT / "scripts", at / "scripts")
        (at / "deploy/packages").mkdir(parents=True)
        for extra in ("server", "lab", "test"):
            (at / "deploy/packages" / extra).write_text(f"for-{extra}  # why\n")
        (at / "pyproject.toml").write_text("# what is installed\n")
        self.pretend("apt-get", APT)
        self.pretend("dpkg-query", INSTALLED)
        self.env = {**os.environ, "TREE": str(at), "PATH": f"{at}/bin:{os.environ['PATH']}"}

    def pretend(self, name: str, script: str, folder: str = "bin") -> None:
        """Put a program into the tree."""
        path = self.at / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)

    def put(self, name: str, text: str = "") -> None:
        """Put in a file: see what the programs look at."""
        (self.at / name).write_text(text)

    def called(self) -> list[str]:
        """Return what was called of the programs that pretend."""
        path = self.at / "called"
        return path.read_text().splitlines() if path.exists() else []

    def script(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a script that needs nothing of all this."""
        argv = [str(self.at / "scripts" / name), *words]
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False)

    @contextmanager
    def setup(self, *words: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
        """Run scripts/setup, and list /usr/sbin after it."""
        argv = ["unshare", "--mount", "sh", "-c", IN_A_NAMESPACE, f"{self.at}/scripts/setup"]
        with subprocess.Popen(
            [*argv, *words],
            env=self.env,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # What a shell runs in the background is not interrupted by Ctrl-C, nor are our children
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def pipe(end: IO[str] | None) -> IO[str]:
    """Return one end of a process's pipes, which is there."""
    assert end
    return end
