"""CAPE's rooter, the part of CAPE that runs as root and makes each run's route."""

from __future__ import annotations

import json
import socket
import tempfile
from pathlib import Path

from cuckoo_zfsiscsi.cape.tree import CapeTree

TIMEOUT = 10.0
"""Seconds for an answer: it does one thing after the other."""
QUESTION = {"command": "nic_available", "args": ["lo"], "kwargs": {}}
"""One that changes nothing."""


class RooterError(Exception):
    """It does not answer; the text says why."""


def rooter_socket(tree: CapeTree) -> Path:
    """Return where CAPE looks for it.

    Raises:
        ConfigError: a file of CAPE can't be read.
    """
    return Path(tree.get("cuckoo", "cuckoo", "rooter", "/tmp/cuckoo-rooter"))  # noqa: S108


def ask(path: Path) -> None:
    """Return when it has answered, as it would answer CAPE.

    Raises:
        PermissionError: whoever runs this may not ask.
        RooterError: it does not answer within TIMEOUT.
    """
    with (
        tempfile.TemporaryDirectory(prefix="zfsiscsi-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own,
    ):
        own.settimeout(TIMEOUT)
        own.bind(f"{folder}/answer")  # the rooter answers to an address, as CAPE gives one
        try:
            own.connect(str(path))
            own.send(json.dumps(QUESTION).encode())
            answer = json.loads(own.recv(0x10000))
        except PermissionError:
            raise
        except TimeoutError:
            raise RooterError(f"does not answer within {TIMEOUT:.0f} s") from None
        except FileNotFoundError:
            raise RooterError("is not there") from None
        except ConnectionRefusedError:
            raise RooterError("is left from one that has ended") from None
        except OSError as error:
            raise RooterError(f"can't be asked: {error.strerror}") from None
        except ValueError:
            raise RooterError("answers no JSON") from None
        if not isinstance(answer, dict) or "output" not in answer:
            raise RooterError("answers as CAPE's rooter does not")
