"""Kernel modules of ZFS and LIO, and where LIO is configured."""

from __future__ import annotations

from collections.abc import Iterator

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.doctor.system import System

ZFS = ("zfs",)
LIO = ("target_core_mod", "target_core_iblock", "iscsi_target_mod")
AT_BOOT = "/etc/modules-load.d/zfsiscsi.conf"
CONFIGFS = "/sys/kernel/config"
TRACEFS = "/sys/kernel/tracing"
LOADING = "/etc/modprobe.d/zfsiscsi.conf"
COMPRESSING = "z_wr_iss"
"""The threads of a pool that compress (OpenZFS, module/zfs/spa.c)."""


def check_modules(config: Config, system: System) -> Iterator[Finding]:
    """Look whether the modules are there, and loaded: the service itself may load none."""
    storage = config.storage
    wanted = [*(ZFS if storage.store == "zfs" else ()), *(LIO if storage.target == "lio" else ())]
    loaded = {line.split()[0] for line in (system.read("/proc/modules") or "").splitlines()}
    builtin = system.read(f"/lib/modules/{system.release}/modules.builtin") or ""
    good = []
    for name in wanted:
        if name in loaded or f"/{name}.ko" in builtin or system.exists(f"/sys/module/{name}"):
            good.append(name)
        else:
            yield _missing(name, system)
    if good:
        yield Finding("ok", "kernel modules", f"{', '.join(good)} are there")


def check_configfs(_config: Config, system: System) -> Iterator[Finding]:
    """Look for the file system through which LIO is configured."""
    if _is_mounted(CONFIGFS, "configfs", system):
        yield Finding("ok", CONFIGFS, "configfs is mounted")
        return
    fix = "systemctl start sys-kernel-config.mount"
    yield Finding("error", CONFIGFS, "configfs is not mounted: LIO can't be configured", fix)


def check_tracefs(_config: Config, system: System) -> Iterator[Finding]:
    """Look for the file system through which the kernel tells of a guest's huge commands."""
    if _is_mounted(TRACEFS, "tracefs", system):
        yield Finding("ok", TRACEFS, "tracefs is mounted")
        return
    what = "tracefs is not mounted: a guest may take all of this server's memory, by huge commands"
    yield Finding("warning", TRACEFS, what, "systemctl start sys-kernel-tracing.mount")


def _is_mounted(where: str, kind: str, system: System) -> bool:
    mounts = (line.split() for line in (system.read("/proc/mounts") or "").splitlines())
    return any(words[1:3] == [where, kind] for words in mounts)


def check_versions(_config: Config, system: System) -> Iterator[Finding]:
    """Compare commands and module: after an upgrade without a restart they differ."""
    module, answer = system.read("/sys/module/zfs/version"), system.run(["zfs", "version"])
    if answer is None:
        fix = "apt install zfsutils-linux"
        yield Finding("error", "zfs", "ZFS' commands are not installed", fix)
    elif module and answer.out:
        commands = answer.out.split()[0].removeprefix("zfs-")
        if commands.split(".")[:2] == module.split(".")[:2]:
            yield Finding("ok", "zfs", f"version {module}")
        else:
            what = f"its commands are {commands}, the kernel's module is {module}"
            yield Finding("warning", "zfs", what, "restart this server at a quiet time")


def check_priority(_config: Config, system: System) -> Iterator[Finding]:
    """Look whether ZFS' threads go before LIO's: a guest, and its fence, wait while it writes."""
    answer = system.run(["ps", "-e", "-o", "ni=,comm="])
    rows = [line.split(None, 1) for line in answer.out.splitlines()] if answer else []
    nice = [int(ni) for ni, name in rows if name == COMPRESSING and ni != "-"]
    if not nice:  # no pool is imported: the check of it says so
        return
    if min(nice) >= 0:
        yield Finding("ok", "ZFS' threads", "do not go before LIO's")
        return
    what = f"go before LIO's ({COMPRESSING} at nice {min(nice)}): resets are slower at times"
    fix = "update-initramfs -u, then restart this server at a quiet time"
    if not system.exists(LOADING):
        fix = f"cp deploy/modprobe.conf {LOADING}; {fix}"
    yield Finding("warning", "ZFS' threads", what, fix)


def _missing(name: str, system: System) -> Finding:
    where = f"kernel module {name}"
    probe = system.run(["modprobe", "--dry-run", "--quiet", name])
    if probe is not None and probe.code == 0:
        fix = f"modprobe {name} && echo {name} >> {AT_BOOT}"
        return Finding("error", where, "is there, but not loaded", fix)
    what = f"is not there for the running kernel {system.release}"
    if system.distribution == "ubuntu":  # its kernels come with ZFS
        fix = f"apt install linux-modules-{system.release}"
    elif name in ZFS:
        fix = f"apt install zfs-dkms linux-headers-{system.release} (zfs-dkms is in contrib)"
    else:
        fix = "boot a kernel of the distribution: uname -r; apt install linux-image-amd64"
    return Finding("error", where, what, fix)
