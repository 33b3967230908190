"""What iptables(8) needs beside the firewall of nftables, as CAPE's rooter writes its rules there.

For a run without a route the rooter appends a rule to OUTPUT that drops what this server sends to
the host, its disk's traffic too: that is let out before. And what the rooter accepts in FORWARD
means nothing unless all else is dropped. With br_netfilter FORWARD sees what goes from port to
port of a bridge, too: that is let through, as it is none of the rooter's business.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.environment import search_path
from cuckoo_zfsiscsi.netboot.checker import check

CHAIN = "zfsiscsi"
INSTALL = "apt install iptables"
LIST = ("iptables", "-w", "-S")
RESTORE = ("iptables-restore", "-w", "--noflush")
BRIDGED = 0x08000000
"""Bit of a frame's mark: it goes from port to port of a bridge."""
_JUMP = f"OUTPUT -j {CHAIN}"
_ACCEPT_BRIDGED = f"-m mark --mark {BRIDGED:#x}/{BRIDGED:#x} -j ACCEPT"


def apply(interfaces: Sequence[str], *, is_gateway: bool, deadline: Deadline) -> None:
    """Put the rules in front, in one step. Other rules stay as they are.

    Args:
        interfaces: those towards hosts.
        is_gateway: hosts may be let through this server.
        deadline: for all of it.

    Raises:
        NetbootError: iptables is missing, or refuses.
    """
    text = write(check(LIST, deadline, install=INSTALL), interfaces, is_gateway=is_gateway)
    check(RESTORE, deadline, install=INSTALL, stdin=text)


def remove(deadline: Deadline) -> None:
    """Take the rules away, if they are there; FORWARD's policy stays.

    Raises:
        NetbootError: iptables refuses.
    """
    if not shutil.which(LIST[0], path=search_path()):
        return
    if text := erase(check(LIST, deadline, install=INSTALL)):
        check(RESTORE, deadline, install=INSTALL, stdin=text)


def write(present: str, interfaces: Sequence[str], *, is_gateway: bool) -> str:
    """Return what iptables-restore(8) is given.

    Args:
        present: the rules of now, as iptables -S has them.
        interfaces: those towards hosts.
        is_gateway: hosts may be let through this server.
    """
    lines = [":FORWARD DROP [0:0]"] if is_gateway else []
    lines.append(f":{CHAIN} - [0:0]")  # emptied, if it is there
    for interface in interfaces:
        # Disk and boot script, which the chain boot-out of nftables leaves untracked
        lines.append(f"-A {CHAIN} -o {interface} -m conntrack --ctstate UNTRACKED -j ACCEPT")
        # What the server begins itself: leases, files by TFTP, and asking RPC, agent and ping
        lines.append(f"-A {CHAIN} -o {interface} -m conntrack --ctdir ORIGINAL -j ACCEPT")
    lines += [*_ours(present), f"-I {_JUMP}"]
    lines += [f"-I FORWARD -i {one} -o {one} {_ACCEPT_BRIDGED}" for one in interfaces]
    return _table(*lines)


def erase(present: str) -> str:
    """Return what iptables-restore(8) is given to take the rules away; "" if none is there."""
    if f"-N {CHAIN}" not in present.splitlines():
        return ""
    return _table(*_ours(present), f"-F {CHAIN}", f"-X {CHAIN}")


def _ours(present: str) -> list[str]:
    return [
        line.replace("-A", "-D", 1)
        for line in present.splitlines()
        if line == f"-A {_JUMP}" or line.endswith(f" {_ACCEPT_BRIDGED}")
    ]


def _table(*lines: str) -> str:
    return "\n".join(["*filter", *lines, "COMMIT", ""])
