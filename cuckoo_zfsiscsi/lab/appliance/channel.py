"""Runs a command inside the appliance, over a virtio-serial port: not on any network.

The other end is guest/agent.py, which says what goes over the line.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError

PORTS = 8
"""Commands that can run at the same time."""
PAUSE = 0.1
"""Seconds between attempts to get a port."""
ROUND = 0.5
"""Seconds after which a wait for output looks whether it was cancelled."""

Output = Callable[[Literal["out", "err"], bytes], None]
"""Called with what a command printed, as it prints it."""


def devices() -> list[str]:
    """Return QEMU's arguments for the ports; the sockets lie in its current directory."""
    argv = ["-device", f"virtio-serial-pci,max_ports={PORTS + 1}"]
    for name in names():
        argv += ["-chardev", f"socket,id={name},path={name},server=on,wait=off"]
        argv += ["-device", f"virtserialport,chardev={name},name={name}"]
    return argv


def names() -> list[str]:
    """Return the ports' names, which are their sockets', too."""
    return [f"agent{number}" for number in range(PORTS)]


def run(
    state: Path,
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    deadline: Deadline,
    on_output: Output,
) -> int:
    """Run a command; return its exit status, 128 and more for a signal, as a shell does.

    A command that is not waited for any longer (an exception, our death) is ended.

    Args:
        state: the appliance's directory, with the sockets.
        argv: program and arguments.
        cwd: where it runs.
        env: added to the agent's environment.
        deadline: by when it must have ended.
        on_output: called with what it prints.

    Raises:
        LabError: it can't be started, or the appliance went off.
        DeadlineExceededError, CancelledError: as deadline.check().
    """
    number = secrets.token_hex(8)
    request = {"id": number, "argv": list(argv), "cwd": cwd, "env": dict(env)}
    what = f"{' '.join(argv[:4])} in the appliance"
    with _port(state, deadline, what) as peer:
        peer.settimeout(PAUSE)
        _send(peer, b"\n" + json.dumps(request).encode() + b"\n", deadline, what)
        for line in _lines(peer, deadline, what):
            try:
                answer = json.loads(line)
            except ValueError:
                continue  # the rest of one that went to whoever had the port before
            if not isinstance(answer, dict) or answer.get("id") != number:
                continue
            if "exit" in answer:
                return int(answer["exit"])
            if "failed" in answer:
                raise LabError(f"{what}: {answer['failed']}")
            stream: Literal["out", "err"] = "out" if "out" in answer else "err"
            on_output(stream, base64.b64decode(answer[stream]))
    raise LabError(f"{what}: the appliance went off")


@contextmanager
def _port(state: Path, deadline: Deadline, what: str) -> Iterator[socket.socket]:
    """Have a port to oneself."""
    while True:
        for name in names():
            with contextlib.ExitStack() as stack:
                lock: IO[str] = stack.enter_context((state / f"{name}.lock").open("w"))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                peer = stack.enter_context(socket.socket(socket.AF_UNIX))
                _connect(peer, state / name, what)
                yield peer
                return
        deadline.sleep(PAUSE, f"{what}: waiting for one of {PORTS} ports")


def _connect(peer: socket.socket, path: Path, what: str) -> None:
    """Connect by a short name: a socket's path has 107 bytes at most (unix(7))."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            peer.connect(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
    except OSError as error:
        raise LabError(f"{what}: the appliance is off ({error})") from error


def _send(peer: socket.socket, data: bytes, deadline: Deadline, what: str) -> None:
    while data:
        deadline.check(what)
        with contextlib.suppress(TimeoutError):
            data = data[peer.send(data) :]


def _lines(peer: socket.socket, deadline: Deadline, what: str) -> Iterator[bytes]:
    """Yield what arrives, line by line, until the other end is gone."""
    buffer = b""
    peer.settimeout(ROUND)
    while True:
        deadline.check(what)
        try:
            data = peer.recv(1 << 16)
        except TimeoutError:
            continue
        except ConnectionError:
            data = b""
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        yield from lines
