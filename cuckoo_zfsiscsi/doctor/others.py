"""Services of the distribution that take what is ours: ports, targets, disks."""

from __future__ import annotations

from collections.abc import Iterator

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.doctor.system import System

RESTORERS = ("rtslib-fb-targetctl.service", "target.service")
"""Debian's name and Ubuntu's second one of what restores, and clears, LIO's targets."""
STANDARD = 3260
"""TCP port of iSCSI (RFC 7143 13.1)."""
SESSIONS = "/sys/class/iscsi_session"


def check_others(config: Config, system: System) -> Iterator[Finding]:
    """Look for them."""
    found = [
        *_tgt(config, system),
        *(_restorers(system) if config.storage.target == "lio" else ()),
        *_multipath(config, system),
        *_initiator(config, system),
    ]
    yield from found or [Finding("ok", "other services", "none takes ports, targets or disks")]


def _tgt(config: Config, system: System) -> Iterator[Finding]:
    """Look for a tgtd: the service starts one of its own when it uses tgt at all."""
    if _asked("is-active", "tgt.service", system) == "active":
        what = "the distribution's tgtd runs, for nobody"
        if any(config.portal_port_of(host) == STANDARD for host in config.hosts):
            what = f"the distribution's tgtd runs, and listens on port {STANDARD}"
        yield Finding("warning", "tgt.service", what, "systemctl disable --now tgt")


def _restorers(system: System) -> Iterator[Finding]:
    for unit in RESTORERS:
        enabled, active = (_asked(how, unit, system) for how in ("is-enabled", "is-active"))
        if enabled == "enabled" or (active == "active" and enabled != "masked"):
            what = "restores saved targets when it starts, and clears all, also ours, when it stops"
            yield Finding("warning", unit, what, f"systemctl mask {unit}")


def _multipath(config: Config, system: System) -> Iterator[Finding]:
    if (
        config.storage.store != "zfs"
        or _asked("is-active", "multipathd.service", system) != "active"
    ):
        return
    for name in system.names("/dev"):
        if not (name.startswith("zd") and name[2:].isdigit()):
            continue
        answer = system.run(["multipath", "-c", f"/dev/{name}"])
        if answer is not None and answer.code == 0:
            fix = (
                """printf 'blacklist {\\n devnode "^zd[0-9]"\\n}\\n' > """
                "/etc/multipath/conf.d/zfsiscsi.conf; systemctl reload multipathd"
            )
            yield Finding("error", "multipathd.service", f"wants to have /dev/{name}", fix)
            return


def _initiator(config: Config, system: System) -> Iterator[Finding]:
    """Look for sessions of this server's own: it must not be a host of itself."""
    for session in system.names(SESSIONS):
        target = system.read(f"{SESSIONS}/{session}/targetname") or ""
        if target.startswith(f"{config.storage.iqn}:"):
            what = "this server is logged in to a host's disk, as an initiator"
            fix = f"iscsiadm -m node -T {target} --logout; systemctl disable --now open-iscsi"
            yield Finding("error", target, what, fix)


def _asked(how: str, unit: str, system: System) -> str:
    answer = system.run(["systemctl", how, unit])
    return answer.out.strip() if answer is not None else ""
