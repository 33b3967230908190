"""Where a boot stalled, and what to look at then."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.service.report import STAGES

HINTS = {
    "power": "look at the BMC: zfsiscsi power {host} status",
    "dhcp": "the host did not ask for an address: is network boot first in its firmware, "
    "is it cabled to the boot network, is its mac right in zfsiscsi.conf?",
    "tftp": "the host has an address but loaded no boot file, nor asked for its script: does "
    "firmware = {firmware} match the host, is UDP port 69 open on this server?",
    "ipxe": "iPXE was sent but asked for no address: does its driver know the network card? "
    "try another boot_file (snponly.efi, undionly.kpxe); is spanning tree off on the switch port?",
    "script": "iPXE did not ask for its boot script: does firmware = {firmware} match the host, "
    "does its NIC need another boot_file (snponly.efi)?",
    "login": "the host got its boot script but did not log in to its disk: can it reach the "
    "portal, and is a firewall in between?",
    "rpc": "the disk is attached but the guest's RPC service does not answer: look at the "
    "host's screen, and see whether the image boots on this hardware",
    "agent": "{system} is up but CAPE's agent is not: does the image start it at {when}?",
}
"""What to look at when a boot ends before this stage."""
ELSEWHERE = (
    "take the internal disk and USB sticks out of {host}, have its firmware boot from the network "
    "alone, and lock the firmware's set-up; see docs/power.rst, A disk of its own"
)
"""What to do when a host came up from one."""
GUEST, CARD = ("rpc", "agent"), ("arp", "icmp")
"""Signs that only a whole system gives; those that a card gives as soon as it has an address."""
BEFORE_DISK = ("dhcp", "tftp", "ipxe", "script", "login")
"""Stages without which no system can have come from the host's disk."""
SYSTEMS = {"windows": ("Windows", "logon"), "linux": ("Linux", "boot")}
"""By platform: what the system is called, and when the agent is started."""


def missing_stage(reached: Iterable[str], probes: Collection[str]) -> str:
    """Return the first stage that did not come after those that did.

    Args:
        reached: stages, others among them.
        probes: stages that must come last, by the host's `ready`.
    """
    wanted = [*STAGES[:-2], *probes]
    last = max((wanted.index(stage) for stage in reached if stage in wanted), default=-1)
    return wanted[min(last + 1, len(wanted) - 1)]


def hint(missing: str, host: HostConfig) -> str:
    """Return what to look at when a boot of the host ends before this stage."""
    system, when = SYSTEMS[host.platform]
    return HINTS[missing].format(host=host.label, firmware=host.firmware, system=system, when=when)


def foreign_system(missing: str, signs: Mapping[str, str]) -> str:
    """Return what shows that a system runs which did not come from the host's disk, or "".

    A host with a disk or a stick of its own may ask for nothing at all, or ask DHCP alone, load the
    boot file and give up. So every stage before the login counts. PXE and iPXE answer ARP and ping
    themselves, once they have an address: that is a sign as long as nobody asked for one.

    Args:
        missing: stage that did not come.
        signs: of life, for people, by their kind.
    """
    if missing not in BEFORE_DISK:
        return ""
    kinds = GUEST + CARD if missing == "dhcp" else GUEST
    return next((signs[kind] for kind in kinds if kind in signs), "")
