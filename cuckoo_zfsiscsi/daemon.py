"""A child that serves us for as long as we live: started, watched, ended; also by our successor."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ZfsIscsiError

MARK = "ZFSISCSI_DAEMON"
"""Environment variable of the child that holds its pid file's path: how a left-over is known."""
GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""
POLL = 0.02

log = logging.getLogger(__name__)


class Daemon:
    """One program in the foreground, its output read line by line.

    Args:
        argv: program and arguments: no secrets. It must stay in the foreground.
        name: of the program in messages, if argv begins with another that becomes it.
        pid_file: its identity: one process at a time per path, also across our own restarts.
        env: added to our environment.
        on_line: called in a thread of ours with each line that it prints; by default logged.
        error: class of the errors raised.
        install: how to install the program, for the message when it is missing.
        fix: what to look at when it ends at its start.
        grace: seconds between SIGTERM and SIGKILL.
        pass_fds: file descriptors that the child has, too.
    """

    def __init__(
        self,
        argv: Sequence[str],
        pid_file: Path,
        *,
        name: str = "",
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        error: type[ZfsIscsiError] = ZfsIscsiError,
        install: str = "",
        fix: str = "",
        grace: float = GRACE,
        pass_fds: Collection[int] = (),
    ) -> None:
        self.name = name or Path(argv[0]).name
        self._argv = list(argv)
        self._pid_file = pid_file
        self._env = {**os.environ, **(env or {}), MARK: str(pid_file)}
        self._on_line = on_line or (lambda line: log.info("%s: %s", self.name, line))
        self._error = error
        self._install = install
        self._fix = fix
        self._grace = grace
        self._pass_fds = tuple(pass_fds)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._tail: deque[str] = deque(maxlen=16)

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process and self.alive() else None

    @property
    def status(self) -> int | None:
        """How it ended, as Popen.returncode; None while it runs or was never started."""
        return self._process.poll() if self._process else None

    @property
    def tail(self) -> str:
        """The last lines that it printed."""
        return " / ".join(self._tail)

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, deadline: Deadline, ready: Callable[[], bool] | None = None) -> None:
        """End a left-over, then launch().

        Raises:
            error (the class given): as launch(), or a left-over does not go away.
            DeadlineExceededError, CancelledError: not ready; it was ended again.
        """
        self.end_leftover(deadline)
        self.launch(deadline, ready)

    def launch(
        self, deadline: Deadline, ready: Callable[[], bool] | None = None, poll: float = POLL
    ) -> None:
        """Start it where there is no left-over, and wait until it is ready.

        Args:
            deadline: for all of it.
            ready: asked again and again, says whether it serves by now.
            poll: seconds between two times.

        Raises:
            error (the class given): it is missing, or died.
            DeadlineExceededError, CancelledError: not ready; it was ended again.
        """
        self._tail.clear()
        try:
            process = subprocess.Popen(
                self._argv,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=self._pass_fds,
                start_new_session=True,  # Ctrl-C is for us: we end it when it is time
            )
        except FileNotFoundError:
            raise self._error(f"{self._argv[0]} is not installed", fix=self._install) from None
        self._process = process
        reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        reader.start()
        self._reader = reader
        try:
            self._pid_file.write_text(f"{process.pid}\n")
            while ready and not ready():
                if not self.alive():
                    break
                deadline.sleep(poll, f"the start of {self.name}")
        except BaseException:
            self.stop(Deadline(0))
            raise
        if not self.alive():
            self.stop(Deadline(GRACE))  # reads its last words
            raise self._error(
                f"{self.name} ended with status {process.returncode}: {self.tail}", fix=self._fix
            )

    def stop(self, deadline: Deadline) -> None:
        """End it: SIGTERM, then SIGKILL when grace or deadline is over. May be called again.

        Raises:
            error (the class given): it survives SIGKILL.
        """
        if self._process is None or self._reader is None:
            return
        self._process.terminate()
        try:
            self._process.wait(min(self._grace, deadline.remaining))
        except subprocess.TimeoutExpired:
            self._process.kill()
            try:
                self._process.wait(GRACE)
            except subprocess.TimeoutExpired:
                raise self._error(
                    f"{self.name}, process {self._process.pid}, can't be killed"
                ) from None
        self._reader.join(1.0)  # a child of its own may hold the pipe for longer
        self._pid_file.unlink(missing_ok=True)

    def end_leftover(self, deadline: Deadline) -> None:
        """End every process that an earlier life of ours started with the same pid file.

        Raises:
            error (the class given): one survives SIGKILL.
            DeadlineExceededError, CancelledError: as Deadline.check().
        """
        with contextlib.ExitStack() as handles:
            watched: dict[int, int] = {}  # process id by handle
            for how, grace in ((signal.SIGTERM, self._grace), (signal.SIGKILL, GRACE)):
                patience = deadline.within(grace)
                for pid in self._leftovers():
                    log.warning("%s: ends process %d, left over from before", self.name, pid)
                    with contextlib.suppress(ProcessLookupError):
                        handle = os.pidfd_open(pid)
                        handles.callback(os.close, handle)
                        watched[handle] = pid
                        signal.pidfd_send_signal(handle, how)
                while _alive(watched) and patience.remaining:
                    deadline.sleep(POLL, f"the end of an old {self.name}")
            for handle in _alive(watched):
                raise self._error(f"an old {self.name}, process {watched[handle]}, can't be killed")

    def _leftovers(self) -> list[int]:
        """Return who carries our mark. A process that is gone or not ours to read has none."""
        return [pid for pid, path in _marked() if path == self._pid_file]

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while raw := pipe.readline(4096):
                line = raw.decode("utf-8", "replace").rstrip()
                self._tail.append(line)
                try:
                    self._on_line(line)
                except Exception:  # the pipe must be read on, or the child stands still
                    log.exception("%s: the line %r", self.name, line)


def left_over(folder: Path, pattern: str) -> set[Path]:
    """Return the pid files, as they were given to a Daemon, of all that runs: our own, too.

    Args:
        folder: that they are in.
        pattern: of their names.
    """
    return {path for _, path in _marked() if path.parent == folder and path.match(pattern)}


def _marked() -> Iterator[tuple[int, Path]]:
    """Return who carries a mark, and its pid file.

    A process that is gone or not ours to read has none.
    """
    mark = f"{MARK}=".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                for word in (entry / "environ").read_bytes().split(b"\0"):
                    if word.startswith(mark):
                        yield int(entry.name), Path(os.fsdecode(word.removeprefix(mark)))


def _alive(handles: Collection[int]) -> list[int]:
    """Return the handles (pidfd_open(2)) of processes that have not ended whole.

    A dying process loses its memory, and with it our mark, before it closes its sockets: one that
    is only looked for by its mark may still hold the port that its successor needs.
    """
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    ended = {handle for handle, _ in poll.poll(0)}
    return [handle for handle in handles if handle not in ended]
