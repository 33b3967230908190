"""What a tgtd runs in: a user, a root directory and limits of its own (bubblewrap, setpriv).

tgtd speaks to whatever a guest sends. Who takes it over has the rights of the host's own disk and
no more: it is no user that anything belongs to, sees no file but that disk and the programs of
/usr, no process but itself, and can't begin a connection.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cuckoo_zfsiscsi.environment import search_path
from cuckoo_zfsiscsi.errors import TargetError

FIRST_USER = 0x70000000
"""User and group ids of tgtds begin here: no distribution gives these to anybody (systemd's
"Users, Groups, UIDs and GIDs on systemd Systems" lists 1879048192 to 2147483647 as unused)."""
_USERS = 0x10000000
DISK = "/disk"
"""Where its disk is, inside."""
ROOM = "/run"
"""Where its control socket is, inside."""
THREADS = 40
"""tgtd has 16 for its disk, and two others."""
CONNECTIONS = 4096
"""File descriptors. A host's own connection is one; siblings may knock where no firewall is."""
MEMORY = 512 << 20
"""Bytes of addresses: one session may have 128 commands under way, a megabyte and more each."""
PACKAGES = {"bwrap": "bubblewrap", "setpriv": "util-linux", "tgtd": "tgt"}
"""Program, and Debian's package that has it."""
_KEPT = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
"""Capabilities for setpriv, which drops them."""
_KILLED_FIRST = 500
"""oom_score_adj, proc(5): before the service, after a program that leaks."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Of one tgtd.

    Args:
        user: its user and group id.
        disk: file that it may read and write.
        room: directory for its control socket.
    """

    user: int
    disk: Path
    room: Path

    def command(
        self, argv: Sequence[str], env: dict[str, str], *, calls: int, info: int
    ) -> list[str]:
        """Return what runs a program in it.

        Outside bwrap waits for it, and ends as it does.

        Args:
            argv: the program, by its path or one of PACKAGES, and its arguments.
            env: all of its environment.
            calls: file descriptor with the system calls that it may make, see tgt_calls.
            info: file descriptor to which bwrap writes the process id (JSON).

        Raises:
            TargetError: a program is missing.
        """
        found = programs()
        limits = {
            "as": MEMORY,
            "core": 0,
            "fsize": self.disk.stat().st_size,
            "msgqueue": 0,
            "nofile": CONNECTIONS,
            "nproc": THREADS,
        }
        return [
            # The service may be nicer than others, and kept from the OOM killer: tgtd is not
            "nice", "-n", str(-os.getpriority(os.PRIO_PROCESS, 0)),
            "choom", "-n", str(_KILLED_FIRST), "--",
            found["bwrap"],
            "--unshare-pid", "--as-pid-1", "--unshare-ipc", "--unshare-uts",
            "--ro-bind", "/usr", "/usr",
            *(word for name in ("bin", "lib", "lib64", "sbin")
              for word in ("--symlink", f"usr/{name}", f"/{name}")),
            "--bind", str(self.disk), DISK,
            "--bind", str(self.room), ROOM,
            "--remount-ro", "/",
            "--chdir", "/",
            "--clearenv", *(word for pair in env.items() for word in ("--setenv", *pair)),
            "--cap-drop", "ALL",
            *(word for name in _KEPT for word in ("--cap-add", name)),
            "--seccomp", str(calls), "--info-fd", str(info),
            "--",
            "prlimit", *(f"--{name}={value}" for name, value in limits.items()), "--",
            found["setpriv"],
            f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups",
            "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs",
            found.get(argv[0], argv[0]), *argv[1:],
        ]  # fmt: skip


def new_user() -> int:
    """Return a user and group id that nobody has.

    A new one each time, at random: what is counted by user (threads, setrlimit(2)) is not shared
    with the tgtd of another host, nor of another service of this server.
    """
    return FIRST_USER + secrets.randbelow(_USERS)


def programs() -> dict[str, str]:
    """Return the path of each program that is needed.

    Raises:
        TargetError: one is missing.
    """
    found, where = {}, search_path()
    for name, package in PACKAGES.items():
        path = shutil.which(name, path=where)
        if path is None:
            raise TargetError(f"{name} is not installed", fix=f"apt install {package}")
        found[name] = path
    return found
