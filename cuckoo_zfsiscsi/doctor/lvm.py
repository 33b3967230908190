"""LVM and the guests' disks: it would find, and hold, volume groups that malware made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.doctor.system import System

KEYS = ("devices/global_filter", "devices/filter", "devices/use_devicesfile")
DEVICES_FILE = "/etc/lvm/devices/system.devices"
NAMES = ("/dev/zd16", "/dev/zvol/pool/zfsiscsi/disks/pc1/g1")
"""What udev calls a zvol: the node, and a link to it."""
FILTER = 'global_filter = [ "r|^/dev/zd.*|", "r|^/dev/zvol/.*|" ]'


def check_lvm(_config: Config, system: System) -> Iterator[Finding]:
    """Ask LVM for its own view of its configuration."""
    answer = system.run(["lvmconfig", "--typeconfig", "full", *KEYS])
    where = "LVM"
    if answer is None:
        yield Finding("ok", where, "is not installed: nobody scans the guests' disks")
        return
    found = answer.pairs("=")
    if answer.code or not found:
        yield Finding("warning", where, f"does not say what it scans: {answer.reason}", "lvmconfig")
        return
    filters = [parse_filter(found.get(key, "")) for key in ("global_filter", "filter")]
    if found.get("use_devicesfile") == "1" and system.exists(DEVICES_FILE):
        yield Finding("ok", where, f"scans the devices in {DEVICES_FILE} alone")
    elif any(not is_accepted(NAMES, one) for one in filters):
        yield Finding("ok", where, "leaves zvols alone: its filter rejects /dev/zd*")
    else:
        what = "scans zvols, so it acts on what guests write to their disks"
        fix = f"write into the section devices of /etc/lvm/lvm.conf: {FILTER}"
        yield Finding("warning", where, what, fix)


def parse_filter(text: str) -> list[tuple[bool, str]]:
    """Return the patterns of a filter, each with whether it accepts, lvm.conf(5)."""
    found = []
    for quoted in re.findall(r'"((?:[^"\\]|\\.)*)"', text):
        pattern = quoted.replace('\\"', '"').replace("\\\\", "\\")
        if pattern[:1] in ("a", "r") and len(pattern) > 2:
            closing = {"(": ")", "[": "]", "{": "}"}.get(pattern[1], pattern[1])
            found.append((pattern[0] == "a", pattern[2:].rpartition(closing)[0]))
    return found


def is_accepted(names: Sequence[str], patterns: Sequence[tuple[bool, str]]) -> bool:
    """Apply a filter as LVM does.

    The first pattern that matches a name decides for that name; one name that is accepted is
    enough; without any match at all the device is accepted.
    """
    decided = []
    for name in names:
        for accepts, pattern in patterns:
            if re.search(pattern, name):
                decided.append(accepts)
                break
    return any(decided) or not decided
