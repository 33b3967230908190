"""The guest's initrd: busybox, iscsistart, their libraries and the kernel modules."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab.command import HANG, run

MODULES = (
    "virtio_pci",
    "virtio_net",
    "virtio_scsi",
    "sd_mod",
    "crc32c_generic",
    "crct10dif_generic",
    "crc64_rocksoft_generic",
    "iscsi_ibft",
    "iscsi_tcp",
    "ext4",
    "button",
    "evdev",
)
"""What a boot needs, by network or from a disk, in this order; one that is built into the kernel is
no file."""
LIBRARIES = Path("usr/lib/x86_64-linux-gnu")


def build(root: Path, init: Path, work: Path) -> bytes:
    """Make the initrd, as the kernel reads it.

    Args:
        root: the guest's root tree: where the programs and modules come from.
        init: becomes /init.
        work: an empty directory to use.

    Raises:
        LabError: something is not in the root tree.
    """
    for folder in ("bin", "dev", "proc", "sys", "run", "newroot", "modules", "lib64", "etc"):
        (work / folder).mkdir(parents=True)
    (work / "lib").symlink_to("lib64")
    copy_program(root / "usr/bin/busybox", work / "bin/busybox")
    for applet in run([str(root / "usr/bin/busybox"), "--list"], timeout=HANG).split():
        if applet != "busybox":
            (work / "bin" / applet).symlink_to("busybox")
    copy_program(root / "usr/sbin/iscsistart", work / "bin/iscsistart")
    for library in libraries(root, root / "usr/sbin/iscsistart"):
        copy_program(library, work / "lib64" / library.name)
    for number, module in enumerate(modules(root / "usr/lib/modules", MODULES)):
        data = module.read_bytes()
        if module.suffix == ".xz":
            data = lzma.decompress(data)
        (work / f"modules/{number:02}-{name_of(module)}.ko").write_bytes(data)
    copy_program(init, work / "init")
    return pack(work)


def pack(work: Path) -> bytes:
    """Return a directory as an initrd, all of it owned by root.

    Raises:
        LabError: no cpio, or the disk is full.
    """
    names = sorted(str(path.relative_to(work)) for path in work.rglob("*"))
    archive = work.parent / "initrd.cpio"
    cpio = ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0", "-F", str(archive)]
    run(cpio, cwd=work, stdin="\n".join(names).encode(), timeout=HANG)
    return gzip.compress(archive.read_bytes(), 9, mtime=0)


def copy_program(source: Path, target: Path) -> None:
    """Copy a file's content and make it executable.

    Raises:
        LabError: it is not there.
    """
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        raise LabError(f"the guest's packages have no {source.name}") from None
    target.chmod(0o755)


def libraries(root: Path, program: Path) -> list[Path]:
    """Return the shared libraries of a program, from the same tree, and its loader.

    Raises:
        LabError: one is not in the tree.
    """
    folder = root / LIBRARIES
    loader = folder / "ld-linux-x86-64.so.2"
    if not loader.exists():
        raise LabError(f"the guest's packages have no {loader.name}")
    listing = run(
        [str(loader), "--library-path", str(folder), "--list", str(program)], timeout=HANG
    )
    names = re.findall(r"^\s+(\S+) => (\S+)", listing, re.M)
    if missing := [name for name, path in names if not Path(path).is_relative_to(folder)]:
        raise LabError(f"the guest's packages have no {' '.join(missing)}")
    return [*(Path(path) for _, path in names if Path(path) != loader), loader]


def name_of(module: Path) -> str:
    """Return the kernel's name of a module file: ext4 of ext4.ko.xz."""
    return module.name.partition(".")[0].replace("-", "_")


def modules(folder: Path, wanted: Sequence[str]) -> list[Path]:
    """Return the module files to insert, each after those that it depends on."""
    files = {name_of(path): path for path in folder.rglob("*.ko*")}
    ordered: list[Path] = []

    def add(name: str) -> None:
        path = files.get(name)
        if path is None or path in ordered:
            return
        data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        # .modinfo of the module: strings that end with a NUL byte
        if needs := re.search(rb"\0depends=([^\0]+)\0", data):
            for other in needs.group(1).decode().split(","):
                add(other.replace("-", "_"))
        ordered.append(path)

    for name in wanted:
        add(name)
    return ordered
