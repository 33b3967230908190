"""The appliance's root tree: Debian packages, the kernel modules it needs, our own few files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import initrd, packages
from cuckoo_zfsiscsi.lab.appliance.kernel import Versions
from cuckoo_zfsiscsi.lab.command import HANG, run
from cuckoo_zfsiscsi.lab.steps import Count, Steps, files

FILES = Path(__file__).parent / "guest"
"""What is ours inside."""
DEPLOY = Path(__file__).parents[3] / "deploy"
SERVER_PACKAGES = DEPLOY / "packages/server"
"""What the service needs on any storage server."""
MODPROBE = DEPLOY / "modprobe.conf"
"""How any storage server loads ZFS."""
PACKAGES = (
    "bash",
    "busybox",
    "coreutils",
    "e2fsprogs",
    "findutils",
    "grep",
    "gzip",
    "iproute2",
    "kmod",
    "libc-bin",
    "libiscsi-bin",
    "libiscsi7",
    "libstdc++6",
    "mount",
    "netbase",
    "procps",
    "psmisc",
    "python3",
    "python3-pyzfs",
    "python3-rtslib-fb",
    "sed",
    "udev",
    "util-linux",
    "zfsutils-linux",
)
NOT_INSIDE = ("tgt", "python3-venv")
"""Of the server's packages: the other target, and what comes from the checkout's .venv."""
LEAVE_OUT = (
    "adduser",
    "debconf",
    "dpkg",
    "init-system-helpers",
    "libdb5.3",
    "libperl5.36",
    "perl",
    "perl-base",
    "perl-modules-5.36",
    "systemd",
    "usrmerge",
)
"""Dependencies of the packages' scripts, which we do not run."""
EXCLUDE = ("./usr/share/doc", "./usr/share/locale", "./usr/share/man", "./usr/share/info")
KERNEL_EXCLUDE = ("./usr/share", "./boot/System.map*", "./lib/modules/*/kernel/sound")
FOLDERS = (
    "dev",
    "mnt",
    "out",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "var/tmp",
    "var/log",
    "var/cache",
    "var/lib",
)
CHECKOUT_PTH = """\
import site, sys; list(map(site.addsitedir, [x for x in sys.path if x.endswith("/site-packages")]))
"""
"""For Debian's Python: what it finds by PYTHONPATH counts as installed, its .pth files too."""
MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng"),
    *("9p", "9pnet_virtio", "ext4", "overlay", "loop", "configfs"),
    *("crc32c_generic", "crct10dif_generic", "crc64_rocksoft_generic"),
    *("target_core_mod", "target_core_iblock", "target_core_file", "iscsi_target_mod", "tcm_loop"),
    *("sd_mod", "sg", "inet_diag", "tcp_diag", "veth", "bridge", "dummy", "tun", "af_packet"),
)
"""What the appliance can use, in the kernel's names; those that they need come along."""


STEPS = (
    "downloading the appliance's packages",
    "unpacking them",
    "taking the kernel and its modules",
    "compiling Python's modules",
)


def build(
    root: Path,
    versions: Versions,
    zfs: Path,
    debs: Path,
    view: Sequence[str],
    steps: Steps,
) -> None:
    """Fill a root tree.

    Args:
        root: an empty directory.
        versions: of the kernel.
        zfs: the directory of ZFS' modules.
        debs: where downloaded packages are kept.
        view: options of apt.
        steps: told of STEPS, among others.

    Raises:
        LabError: apt or a package failed, or a kernel module is not to be had.
    """
    download, unpack, kernel, compiling = STEPS
    with steps.step(download, Count(partial(files, debs, ".deb"), "packages there")):
        found = packages.fetch([*PACKAGES, *server_packages()], debs, view=view)
    wanted = [deb for name, deb in found.items() if name not in LEAVE_OUT]
    with steps.step(unpack, Count(partial(files, root), "files")):
        packages.unpack(wanted, root, exclude=EXCLUDE)
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    with steps.step(kernel):
        _kernel(root, versions, zfs, debs, view)
    _busybox(root)
    _configure(root)
    folders = [
        "/usr/lib/python3",
        *(f"/{path.relative_to(root)}" for path in root.glob("usr/lib/python3.*")),
    ]
    compiler = [
        "/usr/bin/python3",
        "-m",
        "compileall",
        "-q",
        "-x",
        "/(test|tests|lib2to3)/",
        *folders,
    ]
    with steps.step(compiling, Count(partial(files, root, ".pyc"), "modules")):
        run(["chroot", str(root), *compiler], timeout=1800, env={"PYTHONDONTWRITEBYTECODE": ""})


def server_packages() -> list[str]:
    """Return what deploy/packages/server lists, but for what the appliance does without."""
    lines = SERVER_PACKAGES.read_text().splitlines()
    names = [line.partition("#")[0].strip() for line in lines]
    return [name for name in names if name and name not in NOT_INSIDE]


def _kernel(root: Path, versions: Versions, zfs: Path, debs: Path, view: Sequence[str]) -> None:
    """Put the kernel into boot/vmlinuz and the modules that are needed into lib/modules."""
    whole = root.parent / "kernel"
    whole.mkdir()
    (deb,) = packages.download([versions.kernel.package], debs, view=view)
    packages.extract(deb, whole, exclude=KERNEL_EXCLUDE)
    (root / "boot").mkdir(exist_ok=True)
    shutil.move(whole / f"boot/vmlinuz-{versions.abi}", root / "boot/vmlinuz")
    source = whole / "lib/modules" / versions.abi
    target = root / "usr/lib/modules" / versions.abi
    for module in initrd.modules(source, MODULES):
        copy = target / module.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module, copy)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copyfile(source / name, target / name)
    (target / "extra").mkdir()
    for module in zfs.glob("*.ko"):
        shutil.copyfile(module, target / "extra" / module.name)
    builtin = (target / "modules.builtin").read_text().split()
    there = {initrd.name_of(path) for path in [*target.rglob("*.ko*"), *map(Path, builtin)]}
    if missing := [name for name in MODULES if name not in there]:
        raise LabError(f"kernel {versions.abi} has no module {' '.join(missing)}")
    run(["chroot", str(root), "depmod", versions.abi], timeout=HANG)
    shutil.rmtree(whole)


def _busybox(root: Path) -> None:
    """Make busybox stand in for the commands that no package brought."""
    for applet in run(["chroot", str(root), "busybox", "--list"], timeout=HANG).split():
        places = [root / "usr" / way / applet for way in ("bin", "sbin")]
        if not any(place.is_symlink() or place.exists() for place in places):
            places[0].symlink_to("busybox")


def _configure(root: Path) -> None:
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\n"
        "dnsmasq:x:100:65534::/var/lib/misc:/bin/false\n"
        "nobody:x:65534:65534::/:/bin/false\n"
    )
    groups = ("root:0", "tty:5", "disk:6", "dip:30", "nogroup:65534")
    lines = [f"{name}:x:{number}:\n" for name, _, number in (one.partition(":") for one in groups)]
    (root / "etc/group").write_text("".join(lines))
    (root / "etc/hostname").write_text("appliance\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost appliance\n::1 localhost\n")
    for folder in ("var/lib/misc", "etc/zfs", "etc/rtslib-fb-target", "etc/modprobe.d"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(MODPROBE, root / "etc/modprobe.d/zfsiscsi.conf")
    for python in root.glob("usr/lib/python3.*"):
        local = root / "usr/local/lib" / python.name / "dist-packages"
        local.mkdir(parents=True)
        (local / "checkout.pth").write_text(CHECKOUT_PTH)
    (root / "appliance").mkdir()
    for name in ("init", "agent.py"):
        initrd.copy_program(FILES / name, root / "appliance" / name)
    run(["chroot", str(root), "ldconfig"], timeout=HANG)
