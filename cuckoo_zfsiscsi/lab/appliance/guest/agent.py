"""Runs commands for whoever is at the other end of a virtio-serial port, one a port at a time.

Both sides send JSON, a line each. A request: {"id", "argv", "cwd", "env"}. Answers, each with the
request's id: {"out": base64} and {"err": base64} while it runs, {"exit": status} at the end or
{"failed": text} if it can't be started. When the other end goes away, the command is ended.
Standard library only: it runs on the appliance's own Python.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path
from typing import Any

PORTS = Path("/sys/class/virtio-ports")
NAME = "agent"
CHUNK = 32768
"""Bytes of output in one answer."""
IDLE = 0.25
"""Seconds between looks at a port where nobody is: eight of them cost a tenth of the processor."""
PAUSE = 0.05
"""Seconds between looks at a command, or at a port that takes nothing just now."""
LINGER = 0.3
"""Seconds that output may still come after the command has ended: a child of it has the pipe.

What the command itself said is in the pipe by then, and is passed on however long that takes.
"""
GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL for a command that nobody waits for any more."""


class GoneError(Exception):
    """Whoever sent the request is gone."""


def gone(port: int) -> bool:
    """Tell whether whoever asked is gone: nobody is there, or another one, who speaks."""
    poll = select.poll()
    poll.register(port, select.POLLIN)
    return bool(poll.poll(0))


def send(port: int, **answer: object) -> None:
    """Send one line, whole.

    Raises:
        GoneError: nobody would read it. The kernel keeps such a write waiting for the next one.
    """
    # It begins with a newline, too: what was cut off before is a line of its own
    data = b"\n" + json.dumps(answer).encode() + b"\n"
    while data:
        if gone(port):
            raise GoneError
        try:
            data = data[os.write(port, data) :]
        except BlockingIOError:
            time.sleep(PAUSE)
        except OSError as error:
            raise GoneError from error


def serve(path: Path) -> None:
    """Answer requests at one port, for ever."""
    port = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    while True:
        converse(port)
        time.sleep(IDLE)


def converse(port: int) -> None:
    """Answer requests until nobody is at the other end."""
    os.set_blocking(port, False)
    poll = select.poll()
    poll.register(port, select.POLLIN)
    buffer = b""
    while True:
        poll.poll()
        try:
            data = os.read(port, CHUNK)
        except BlockingIOError:
            continue  # whoever woke us went away, and another came before we read
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        # Who is there now asked last; what else came with it is of those who went away
        if requests := [request for line in lines if (request := parse(line))]:
            with contextlib.suppress(GoneError):
                run(port, requests[-1])


def parse(line: bytes) -> dict[str, Any]:
    """Return a request; nothing for an empty line, or the rest of one that was cut off."""
    with contextlib.suppress(ValueError):
        request = json.loads(line)
        if isinstance(request, dict) and request.keys() >= {"id", "argv", "cwd", "env"}:
            return request
    return {}


def run(port: int, request: dict[str, Any]) -> None:
    """Run one command, pass on what it prints and how it ends.

    Raises:
        GoneError: nobody waits for it any longer. It is ended.
    """
    number = request["id"]
    try:
        child = subprocess.Popen(
            request["argv"],
            cwd=request["cwd"],
            env={**os.environ, **request["env"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        send(port, id=number, failed=str(error))
        return
    try:
        relay(port, number, child)
        while child.poll() is None:
            if gone(port):
                raise GoneError
            time.sleep(PAUSE)
    except GoneError:
        end(child)
        raise
    status = child.returncode
    send(port, id=number, exit=status if status >= 0 else 128 - status)


def relay(port: int, number: object, child: subprocess.Popen[bytes]) -> None:
    """Pass on what a command prints until it closes its output, or has ended.

    Raises:
        GoneError: nobody reads it.
    """
    ended = None
    owed: dict[int, int] = {}  # bytes that were in each pipe when the command had ended
    poll = select.poll()
    names = {}
    with contextlib.ExitStack() as stack:
        for name, pipe in (("out", child.stdout), ("err", child.stderr)):
            assert pipe  # noqa: S101 (as asked for)
            stack.enter_context(pipe)
            names[pipe.fileno()] = name
            poll.register(pipe, select.POLLIN)
        while names and (ended is None or any(owed.values()) or time.monotonic() < ended + LINGER):
            for pipe_number, _ in poll.poll(100):
                if data := os.read(pipe_number, CHUNK):
                    owed[pipe_number] = max(0, owed.get(pipe_number, 0) - len(data))
                    encoded = base64.b64encode(data).decode()
                    send(port, id=number, **{names[pipe_number]: encoded})
                else:
                    poll.unregister(pipe_number)
                    del names[pipe_number]
                    owed.pop(pipe_number, None)
            if gone(port):
                raise GoneError
            if ended is None and child.poll() is not None:
                ended = time.monotonic()
                owed = {pipe_number: waiting(pipe_number) for pipe_number in names}


def waiting(pipe: int) -> int:
    """Return how many bytes can be read from a pipe."""
    (number,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    return int(number)


def end(child: subprocess.Popen[bytes]) -> None:
    """End a command and what it started in its session's process group."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)


def main() -> None:
    """Serve every port of ours."""
    threads = []
    for port in sorted(PORTS.iterdir()):
        if (port / "name").read_text().startswith(NAME):
            path = Path("/dev") / port.name
            threads.append(threading.Thread(target=serve, args=(path,)))
            threads[-1].start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
