"""Plays CAPE's rooter at its socket (utils/rooter.py), well or badly."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMANDS = {"nic_available": True}


@contextmanager
def play(path: Path, *, silent: bool = False, answers: bytes | None = None) -> Iterator[list[str]]:
    """Answer as it does, in a thread; give the commands that it was asked.

    Args:
        path: of its socket.
        silent: it takes requests, and never answers.
        answers: what it answers instead.
    """
    asked: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))

        def serve() -> None:
            while True:
                request, peer = server.recvfrom(4096)
                if not request:
                    return
                told = json.loads(request)
                asked.append(told["command"])
                assert all(isinstance(one, str) for one in [*told["args"], *told["kwargs"]])
                answer = {"output": COMMANDS[told["command"]], "exception": None}
                if not silent:
                    server.sendto(answers or json.dumps(answer).encode(), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", str(path))
            thread.join()
            path.unlink()
