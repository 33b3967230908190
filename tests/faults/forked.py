"""Commands of zfsiscsi that are forked, not started: see fork_server.py, the other end."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tests.waiting import HANG

ROOT = Path(__file__).parents[2]


class ForkServer:
    """A process of its own, as this one has threads and open files that no service should get."""

    def __init__(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._lock = threading.Lock()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(HANG)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.fork_server", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                start_new_session=True,  # Ctrl-C is for the tests: they end what they have started
            )

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        self._channel.close()
        self._process.wait(HANG)
        self._said.close()

    def fork(
        self,
        words: Sequence[str],
        *,
        namespace: Path,
        cwd: Path,
        outputs: Sequence[IO[bytes]],
        die: tuple[str, str, int] | None = None,
    ) -> Child:
        """Run a command with our environment; return at once.

        Args:
            words: after `zfsiscsi`.
            namespace: file of the network namespace that it lives in.
            cwd: where it runs.
            outputs: its stdout and its stderr.
            die: how it kills itself, see die.arrange().
        """
        order = {
            "verb": "fork",
            "words": words,
            "namespace": str(namespace),
            "cwd": str(cwd),
            "env": dict(os.environ),
            "die": die,
        }
        pid, handles = self._ask(order, [output.fileno() for output in outputs])
        return Child(self, pid, handles[0])

    def run(self, words: Sequence[str], *, namespace: Path, cwd: Path) -> tuple[int, str, str]:
        """Run a command to its end; return its exit code, its stdout and its stderr."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = self.fork(words, namespace=namespace, cwd=cwd, outputs=[out, err])
            code = child.poll(HANG)
            if code is None:
                child.send_signal(signal.SIGKILL)
                child.poll(HANG)
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode())
            assert code is not None, f"zfsiscsi {' '.join(words)} took over {HANG:g} s: {said}"
            return code, said[0], said[1]

    def reap(self, pid: int) -> int:
        """Return the exit code of a child that has ended, as subprocess has it."""
        return int(self._ask({"verb": "reap", "pid": pid}, [])[0])

    def _ask(self, order: dict[str, Any], files: Sequence[int]) -> tuple[Any, list[int]]:
        with self._lock:
            try:
                socket.send_fds(self._channel, [json.dumps(order).encode()], files)
                answer, handles, _, _ = socket.recv_fds(
                    self._channel, 4096, 1, socket.MSG_CMSG_CLOEXEC
                )
            except OSError as error:
                raise AssertionError(
                    f"no answer to {order['verb']}: {error}; {self._last()}"
                ) from None
        assert answer, f"no answer to {order['verb']}: the fork server has ended; {self._last()}"
        return json.loads(answer), handles

    def _last(self) -> str:
        self._said.seek(0)
        return f"it said {self._said.read().decode(errors='replace')!r}"


class Child:
    """One forked command. Its handle (pidfd_open(2)) never means another process."""

    def __init__(self, server: ForkServer, pid: int, handle: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server
        self._handle = handle

    def poll(self, seconds: float = 0.0) -> int | None:
        """Return its exit code, that of its signal as a negative number; None while it runs.

        Args:
            seconds: to wait for its end.
        """
        if self.returncode is None:
            ended = select.poll()
            ended.register(self._handle, select.POLLIN)
            if ended.poll(seconds * 1000):
                self.returncode = self._server.reap(self.pid)
                os.close(self._handle)
        return self.returncode

    def send_signal(self, how: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, how)
