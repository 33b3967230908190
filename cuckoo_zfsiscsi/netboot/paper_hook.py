"""Run by dhcpd before it answers iPXE: tells the service that a host boots, and waits for it.

paper_hook.py SOCKET SCRIPTS MAC. Standard library only: every client waits meanwhile. dhcpd answers
iPXE in any case; so where there is no answer of the service, no script is left to be loaded.
"""

import contextlib
import socket
import sys
from pathlib import Path

PATIENCE = 9.0
"""Seconds: the service answers in less."""


def main() -> int:
    """Ask; the exit code is 0 if the host has a script now."""
    path, scripts, card = sys.argv[1:]
    answer = ask(path, card)
    if not answer:
        for script in Path(scripts).glob("*.ipxe"):
            script.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # whoever read dhcpd's output may be gone, too
            sys.stderr.write(f"no answer of the service at {path}\n")
            sys.stderr.flush()
    return answer != b"yes\n"


def ask(path: str, card: str) -> bytes:
    """Return the service's answer; nothing if there is none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as service:
        service.settimeout(PATIENCE)
        service.connect(path)
        service.sendall(f"{card}\n".encode())
        return service.recv(16)
    return b""


if __name__ == "__main__":
    sys.exit(main())
