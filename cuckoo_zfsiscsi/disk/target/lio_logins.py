"""Who is logged in to the kernel's target, and what is connected to it without being logged in."""

from __future__ import annotations

import contextlib
import logging
import re
from ipaddress import IPv4Address
from pathlib import Path

from cuckoo_zfsiscsi import connections
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target import Session
from cuckoo_zfsiscsi.disk.target.lio_kernel import entries

log = logging.getLogger(__name__)

TCP = Path("/proc/net/tcp")
_ALIVE = {"01", "03", "08"}
"""ESTABLISHED, SYN_RECV, CLOSE_WAIT: include/net/tcp_states.h."""
_SESSION = re.compile(
    r"^LIO Session ID: (\d+) .*\nSession State: TARG_SESS_STATE_LOGGED_IN\n"
    r"(?:.*\n)*?   Address (\S+) ",
    re.M,
)
"""lio_target_nacl_info_show(). An alias that the guest chose comes before: the last one counts."""

Peer = tuple[str, int]
"""Address and port of the other end of a connection."""


def read_session(initiator: str, info: str) -> Session | None:
    """Read an ACL's info; None if nobody is logged in.

    The kernel shows one session of an initiator, the last that logged in.
    """
    found = _SESSION.findall(info)
    if not found:
        return None
    number, address = found[-1]
    return Session(initiator, address, int(number))


def sessions(target: Path) -> list[Session]:
    """Return who is logged in to a target; nobody if it is gone."""
    found = []
    for group in entries(target, "tpgt_"):
        for acl in entries(group / "acls"):
            with contextlib.suppress(OSError):  # removed meanwhile
                if session := read_session(acl.name, (acl / "info").read_text()):
                    found.append(session)
    return found


def peers(portal: str, port: int, table: Path = TCP) -> set[Peer]:
    """Return the other ends of the connections to a portal."""
    local = f"{_hex(portal)}:{port:04X}"
    found = set()
    for line in table.read_text().splitlines()[1:]:
        words = line.split()
        if words[1] == local and words[3] in _ALIVE:
            address, _, number = words[2].partition(":")
            raw = int(address, 16).to_bytes(4, "little")
            found.add((str(IPv4Address(raw)), int(number, 16)))
    return found


def _hex(address: str) -> str:
    return f"{int.from_bytes(IPv4Address(address).packed, 'little'):08X}"


def cut(portal: str, port: int, ends: set[Peer], deadline: Deadline) -> None:
    """Let the kernel close these connections to a portal."""
    for address, number in sorted(ends):
        log.warning("cuts the connection of %s:%d, which does not end by itself", address, number)
        here, there = f"src {portal} and sport = :{port}", f"dst {address} and dport = :{number}"
        connections.cut(f"{here} and {there}", deadline)
