from __future__ import annotations

import shutil

import pytest

from cuckoo_zfsiscsi.doctor.kernel import (
    LOADING,
    check_configfs,
    check_modules,
    check_priority,
    check_tracefs,
    check_versions,
)
from cuckoo_zfsiscsi.doctor.system import Answer
from tests.doctor.server import FILES, KERNEL, Server


def without(name: str) -> str:
    lines = FILES["proc/modules"].splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(f"{name} "))


def test_not_loaded(server: Server) -> None:
    server.write("proc/modules", without("iscsi_target_mod"))
    server.say("modprobe --dry-run --quiet iscsi_target_mod")
    one = server.problem(check_modules)
    assert (one.level, one.what) == ("error", "is there, but not loaded")
    assert one.fix.startswith("modprobe iscsi_target_mod && echo iscsi_target_mod >> /etc/modules-")


@pytest.mark.parametrize(
    ("distribution", "module", "fix"),
    [
        ("debian", "zfs", f"apt install zfs-dkms linux-headers-{KERNEL} (zfs-dkms is in contrib)"),
        ("debian", "target_core_mod", "boot a kernel of the distribution: "
         "uname -r; apt install linux-image-amd64"),
        ("ubuntu", "zfs", f"apt install linux-modules-{KERNEL}"),
        ("ubuntu", "iscsi_target_mod", f"apt install linux-modules-{KERNEL}"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("modprobe", [True, False])
def test_not_there(
    server: Server, distribution: str, module: str, fix: str, modprobe: bool
) -> None:
    server.write("etc/os-release", f"ID={distribution}\n")
    server.write("proc/modules", without(module))
    shutil.rmtree(server.root / "sys/module")
    if modprobe:
        server.say("modprobe", code=1, err="modprobe: FATAL: Module not found")
    one = server.problem(check_modules)
    assert one.where == f"kernel module {module}"
    assert one.fix == fix


def test_built_into_the_kernel(server: Server) -> None:
    server.write("proc/modules", "")
    server.write("sys/module/zfs/version", "2.2.2\n")
    builtin = ("target_core_mod", "target_core_iblock", "iscsi/iscsi_target_mod")
    text = "".join(f"kernel/drivers/target/{name}.ko\n" for name in builtin)
    server.write(f"lib/modules/{KERNEL}/modules.builtin", text)
    (one,) = server.find(check_modules)
    assert one.level == "ok"


def test_configfs(server: Server) -> None:
    server.write("proc/mounts", "sysfs /sys sysfs rw 0 0\n")
    one = server.problem(check_configfs)
    assert (one.level, one.fix) == ("error", "systemctl start sys-kernel-config.mount")


def test_tracefs(server: Server) -> None:
    (one,) = server.find(check_tracefs)
    assert one.level == "ok"
    server.write("proc/mounts", "sysfs /sys sysfs rw 0 0\n")
    one = server.problem(check_tracefs)
    assert (one.level, one.fix) == ("warning", "systemctl start sys-kernel-tracing.mount")


def test_upgraded_but_not_restarted(server: Server) -> None:
    server.say("zfs version", "zfs-2.3.9-0+deb13u1\nzfs-kmod-2.1.11-1+deb12u1\n")
    one = server.problem(check_versions)
    assert one.level == "warning"
    assert one.what == "its commands are 2.3.9-0+deb13u1, the kernel's module is 2.1.11-1+deb12u1"


def test_no_commands(server: Server) -> None:
    server.says["zfs version"] = None
    assert server.problem(check_versions).fix == "apt install zfsutils-linux"


def test_no_module(server: Server) -> None:
    (server.root / "sys/module/zfs/version").unlink()
    assert server.find(check_versions) == []  # the check of modules says so


@pytest.mark.parametrize("installed", [True, False])
def test_threads_that_go_before_the_target(server: Server, installed: bool) -> None:
    server.say("ps -e -o ni=,comm=", "  0 iscsi_ttx\n  - migration/0\n  0 z_wr_iss\n-19 z_wr_iss\n")
    if installed:
        server.write(LOADING.lstrip("/"), "options spl spl_taskq_thread_priority=0\n")
    one = server.problem(check_priority)
    assert one.level == "warning"
    assert "z_wr_iss at nice -19" in one.what
    assert one.fix.startswith("update-initramfs" if installed else "cp deploy/modprobe.conf /etc/")


@pytest.mark.parametrize("said", [None, "  0 systemd\n"])
def test_no_pool_has_no_threads(server: Server, said: str | None) -> None:
    server.says["ps"] = None if said is None else Answer(0, said)
    assert server.find(check_priority) == []
