"""The service's systemd unit: installed, enabled, running, and allowed to write where it must."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.doctor.system import System

UNIT = "zfsiscsi.service"
PROPERTIES = (
    "LoadState,UnitFileState,ActiveState,Result,NRestarts,"
    "ProtectSystem,ReadWritePaths,RuntimeDirectory,StateDirectory"
)
ZED = "zfs-zed.service"


def check_unit(config: Config, system: System) -> Iterator[Finding]:
    """Ask systemd."""
    if not system.exists("/run/systemd/system"):
        what = "systemd does not run here: the service must be started by something else"
        yield Finding("info", UNIT, what, "zfsiscsi serve")
        return
    answer = system.run(["systemctl", "show", f"--property={PROPERTIES}", UNIT])
    found = answer.pairs("=") if answer is not None else {}
    if found.get("LoadState") != "loaded":
        yield Finding("warning", UNIT, "is not installed", "deploy/install")
        return
    if found.get("UnitFileState") != "enabled":
        what = "does not start with this server"
        yield Finding("warning", UNIT, what, "systemctl enable zfsiscsi")
    yield _state(found)
    yield from _paths(config, found)
    if config.storage.store == "zfs":
        yield from _zed(system)


def _state(found: dict[str, str]) -> Finding:
    state = found.get("ActiveState", "")
    restarts = int(found.get("NRestarts") or 0)
    look = "journalctl -u zfsiscsi -n 50"
    if state == "active" and not restarts:
        return Finding("ok", UNIT, "runs")
    if state == "active":
        what = f"runs, but systemd had to start it again {restarts} times"
        return Finding("warning", UNIT, what, look)
    if state == "inactive":
        return Finding("info", UNIT, "does not run", "systemctl start zfsiscsi")
    what = f"is {state}, its last end was: {found.get('Result') or 'unknown'}"
    return Finding("error", UNIT, what, look)


def _paths(config: Config, found: dict[str, str]) -> Iterator[Finding]:
    """With ProtectSystem=strict everything else is read-only for the service."""
    if found.get("ProtectSystem") != "strict":
        return
    allowed = [Path(path.lstrip("-+")) for path in found.get("ReadWritePaths", "").split()]
    for key, base in (("RuntimeDirectory", "/run"), ("StateDirectory", "/var/lib")):
        allowed += [Path(base, name) for name in found.get(key, "").split()]
    needed = {"[zfsiscsi] run_dir": config.zfsiscsi.run_dir}
    if config.storage.store == "file":
        needed["[storage] path"] = config.storage.path
    for key, path in needed.items():
        if not any(path.is_relative_to(one) for one in allowed):
            what = f"the unit lets the service write nothing in {path}"
            fix = f"systemctl edit zfsiscsi, with [Service] and ReadWritePaths={path}"
            yield Finding("error", f"{key} = {path}", what, fix)


def _zed(system: System) -> Iterator[Finding]:
    answer = system.run(["systemctl", "is-active", ZED])
    if answer is None or answer.out.strip() != "active":
        what = "does not run: nobody tells you when a disk of the pool fails"
        fix = "apt install zfs-zed; ZED_EMAIL_ADDR in /etc/zfs/zed.d/zed.rc"
        yield Finding("warning", ZED, what, fix)
