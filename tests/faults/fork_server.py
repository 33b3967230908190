"""A process that has imported zfsiscsi, does nothing with it, and forks: each child is a command.

To start an interpreter and to import everything takes longer than most tests have to do. A child
of this process has both behind it. Apart from that it is the process that `zfsiscsi` would be: the
parent has one thread, no open file but its channel, and has run no code of the product but what an
import runs. So a service that is killed leaves nothing behind that the next one could find.

    python -m tests.faults.fork_server CHANNEL

CHANNEL is the number of an inherited socket (SOCK_SEQPACKET); tests/faults/forked.py has the other
end. It ends when that end is closed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.__main__ import main as zfsiscsi
from tests.faults.die import arrange
from tests.netboot.network import inside

LATE = (
    "cuckoo_zfsiscsi.cli.image", "cuckoo_zfsiscsi.cli.serve", "cuckoo_zfsiscsi.service.serve",
    "cuckoo_zfsiscsi.power.ipmi", "cuckoo_zfsiscsi.readiness.agent",
    "cuckoo_zfsiscsi.readiness.rpc", "pydantic.v1", "uvicorn.protocols.http.h11_impl",
    "uvicorn.lifespan.off", "anyio._backends._asyncio", "encodings.idna",
)  # fmt: skip
"""Modules that `image import` and `serve` import only when they are at work: had here already."""
LONGEST = 1 << 20
"""Bytes of an order: mostly its environment."""


def main(channel: socket.socket) -> int:
    """Take orders; in a child, return what its command returned."""
    for name in LATE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what was imported is there to stay: no child need look through it, or copy it
    while True:
        message, files, _, _ = socket.recv_fds(channel, LONGEST, 2, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return 0
        order = json.loads(message)
        if order["verb"] == "reap":
            status = os.waitstatus_to_exitcode(os.waitpid(order["pid"], 0)[1])
            channel.send(json.dumps(status).encode())
            continue
        threads = list(Path("/proc/self/task").iterdir())
        assert len(threads) == 1, f"a fork would lose threads: {threads}"
        if (pid := os.fork()) == 0:
            channel.close()
            # By a return, not by os._exit(): it ends as any process does, and what is to be done
            # at an exit (coverage saves what it has seen) is done.
            return become(order, files)
        handle = os.pidfd_open(pid)
        socket.send_fds(channel, [json.dumps(pid).encode()], [handle])
        for file in (handle, *files):
            os.close(file)


def become(order: dict[str, Any], outputs: Sequence[int]) -> int:
    """Be the command that was ordered; return its exit code."""
    for number, file in enumerate(outputs, 1):
        os.dup2(file, number)
        os.close(file)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    if order["die"]:
        arrange(*order["die"])
    sys.argv = ["zfsiscsi", *order["words"]]
    with inside(Path(order["namespace"])):
        return zfsiscsi()


if __name__ == "__main__":
    sys.exit(main(socket.socket(fileno=int(sys.argv[1]))))
