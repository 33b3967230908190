"""One tgtd: serves one disk to one host, from arming to fence, and is killed then.

Nothing outlives that in it: a guest that takes it over has it for one run. And a killed process is
the surest fence there is: the kernel closes its disk and its connections, whatever a guest does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import shutil
import signal
import threading
from pathlib import Path

from cuckoo_zfsiscsi.daemon import MARK, Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target.tgt_calls import program
from cuckoo_zfsiscsi.disk.target.tgt_ipc import Ipc, Mode, Op
from cuckoo_zfsiscsi.disk.target.tgt_sandbox import DISK, ROOM, Sandbox, new_user
from cuckoo_zfsiscsi.errors import TargetError

log = logging.getLogger(__name__)

_SOCKET = "tgtd"
_CONTROL_PORT = 0
_POLL = 0.002
_ASK_TIMEOUT = 5.0
_LINES = 100
"""Lines of one tgtd that are logged: what makes it write more is a guest."""
_PAUSE = 0.01
"""Seconds for each line after that: it waits for us, and not the service for it."""
_SHELL_SIGNAL = 128
"""bwrap ends with this and the number of the signal that ended its child, as a shell does."""


PID_FILES = "tgtd-*.pid"
"""In run_dir."""


class PortalError(TargetError):
    """It can't listen where it should."""


class Tgtd:
    """One process, and what it needs. start() and stop() may come from two threads.

    Args:
        host: whose disk it serves.
        disk: the file.
        portal: address and TCP port that it listens on, no other tgtd does.
        run_dir: for the control socket and the pid file.
    """

    def __init__(self, host: str, disk: Path, portal: tuple[str, int], run_dir: Path) -> None:
        self.host, self.disk, self.portal = host, disk, portal
        self.user = new_user()
        self._room = run_dir / "tgtd" / host
        self._mark = run_dir / PID_FILES.replace("*", host)
        self.ipc = Ipc(self._room / f"{_SOCKET}.{_CONTROL_PORT}", self.user)
        self._lock = threading.Lock()
        self._daemon: Daemon | None = None
        self._process: _Process | None = None  # tgtd itself: the daemon is bwrap outside
        self._told = -1  # where bwrap says which process that is
        self._info = b""
        self._has_begun = False
        self.is_armed = False
        """Whether somebody may log in: whoever gave it a target says so."""
        self._serves = False
        self._lines = 0
        self._ends = threading.Event()

    def start(self, deadline: Deadline) -> None:
        """Start it, without a target: until it has one it closes every connection.

        Raises:
            PortalError: it can't have its address and port.
            TargetError: it can't be started.
            DeadlineExceededError, CancelledError: as Deadline.check(); stop it.
        """
        with self._held(deadline):
            if self._ends.is_set():
                raise TargetError(f"{self.host} was fenced before its disk was exported")
            self._has_begun = True
            with contextlib.ExitStack() as files:
                try:
                    self._make_room()
                    os.chown(self.disk, self.user, self.user)
                    self._daemon = self._make_daemon(files)
                except OSError as error:
                    raise TargetError(
                        f"the disk of {self.host} can't be exported: {error}"
                    ) from None
                self._daemon.launch(deadline, ready=self._answers, poll=_POLL)
            self._settle(deadline)

    def _make_room(self) -> None:
        """Make a directory for its socket; tgtd's lock is on its disk: there is no other file."""
        self._room.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.rmtree(self._room, ignore_errors=True)
        self._room.mkdir(mode=0o700)
        (self._room / f"{_SOCKET}.{_CONTROL_PORT}.lock").symlink_to(DISK)
        os.chown(self._room, self.user, self.user)

    def _make_daemon(self, files: contextlib.ExitStack) -> Daemon:
        calls = os.memfd_create("calls")
        files.callback(os.close, calls)
        os.write(calls, program())
        os.lseek(calls, 0, os.SEEK_SET)
        self._told, info = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        files.callback(os.close, info)
        address, port = self.portal
        tgtd = ["tgtd", "-f", "-C", str(_CONTROL_PORT),
                "--iscsi", f"portal={address}:{port}"]  # fmt: skip
        env = {"TGT_IPC_SOCKET": f"{ROOM}/{_SOCKET}", MARK: str(self._mark)}
        sandbox = Sandbox(self.user, self.disk, self._room)
        return Daemon(
            sandbox.command(tgtd, env, calls=calls, info=info),
            self._mark,
            name=f"tgtd of {self.host}",
            on_line=self._take,
            error=TargetError,
            pass_fds=(calls, info),
            grace=0.0,  # it has nothing to put in order
        )

    def _answers(self) -> bool:
        if self._process is None:
            self._learn_process()
        with contextlib.suppress(TargetError):
            self.ipc.call(Mode.SYSTEM, Op.SHOW, deadline=Deadline(_ASK_TIMEOUT))
            return self._process is not None
        return False

    def _learn_process(self) -> None:
        with contextlib.suppress(BlockingIOError):  # not said yet
            self._info += os.read(self._told, 4096)
        with contextlib.suppress(ValueError, ProcessLookupError):  # not all of it; gone already
            pid = json.loads(self._info)["child-pid"]
            process = _Process(pid)
            if self._daemon and self._daemon.alive():  # so that is its child, and no later process
                self._process = process
                self._mark.write_text(f"{pid}\n")  # who listens, for zfsiscsi doctor
            else:
                process.close()

    def _settle(self, deadline: Deadline) -> None:
        """Take from it what it needed to start, and look where it listens."""
        os.chown(self._room, 0, 0)
        self._room.chmod(0o711)
        address, port = self.portal
        told = self.ipc.call(Mode.PORTAL, Op.SHOW, deadline=deadline)
        if told.split("\n")[0] != f"Portal: {address}:{port},1":
            # tgtd listens on every address when it can't have the one that it was told
            raise PortalError(
                f"tgtd can't listen on {address}:{port}: {self.tail}",
                fix="is another target running (systemctl stop tgt), and does this server have "
                "the address? ss -ltnp",
            )
        self._serves = True

    @property
    def tail(self) -> str:
        """The last lines that it printed."""
        return self._daemon.tail if self._daemon else ""

    def ended(self) -> str:
        """Return how it ended though nobody stopped it; "" while it runs."""
        daemon, process = self._daemon, self._process
        if process is None or daemon is None or not process.is_gone() or self._ends.is_set():
            return ""
        status = daemon.status
        if status is None:  # bwrap is about to hear of it
            return "tgtd ended"
        number = status - _SHELL_SIGNAL if status > 0 else -status
        with contextlib.suppress(ValueError):
            return f"tgtd died of {signal.Signals(number).name}"
        return f"tgtd ended with status {status}"

    def kill(self, deadline: Deadline) -> None:
        """Kill it as a crash would: what it leaves behind is for stop().

        Raises:
            DeadlineExceededError, CancelledError: as Deadline.check().
        """
        with self._held(deadline):
            self._kill(deadline)

    def _kill(self, deadline: Deadline) -> None:
        if self._process:
            self._process.kill()
            while not self._process.is_gone():
                deadline.sleep(_POLL, f"waiting for the end of tgtd of {self.host}")

    def stop(self, deadline: Deadline) -> None:
        """Kill it: on return it is gone, its disk and all its connections are closed.

        May be called again, also when it failed.

        Raises:
            TargetError: it survives SIGKILL.
            DeadlineExceededError, CancelledError: as Deadline.check().
        """
        deadline.check(f"the end of tgtd of {self.host}")
        self._ends.set()
        with self._held(deadline):
            if not self._has_begun:
                return
            self._kill(deadline)
            if self._daemon:
                self._daemon.stop(Deadline(0))
                if not self._process:  # it is not known which one it was
                    self._daemon.end_leftover(deadline)
            if self._process:
                self._process.close()
            if self._told >= 0:
                os.close(self._told)
            shutil.rmtree(self._room, ignore_errors=True)
            with contextlib.suppress(OSError):  # it was removed, or can't be written
                os.chown(self.disk, 0, 0)
            self._has_begun = False

    def _held(self, deadline: Deadline) -> contextlib.AbstractContextManager[None]:
        """Let nobody else start or stop it meanwhile."""
        return deadline.holding(self._lock, f"waiting for tgtd of {self.host} to start or end")

    def _take(self, line: str) -> None:
        self._lines += 1
        if self._lines <= _LINES:
            level = logging.INFO if self._serves else logging.DEBUG  # the same at each start
            log.log(level, "tgtd of %s: %r", self.host, line)
        elif self._lines == _LINES + 1:
            log.warning("tgtd of %s writes more and more, which is not logged", self.host)
        else:
            self._ends.wait(_PAUSE)


class _Process:
    """One process, and no later one of its number (pidfd_open(2)). Safe between threads."""

    def __init__(self, pid: int) -> None:
        self._handle: int | None = os.pidfd_open(pid)
        self._lock = threading.Lock()

    def kill(self) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._handle is not None:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def is_gone(self) -> bool:
        """Tell whether it has ended whole: all that it had open is closed by then (_exit(2))."""
        with self._lock:
            if self._handle is None:
                return True
            poll = select.poll()
            poll.register(self._handle, select.POLLIN)
            return bool(poll.poll(0))

    def close(self) -> None:
        with self._lock:
            if self._handle is not None:
                os.close(self._handle)
            self._handle = None
