"""The guest's disk file: one partition to boot from, on BIOS and on UEFI, and one root partition.

Nothing is mounted and no loop device is used: every file system is made as a file and put in place.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab.command import HANG, run

MIB = 1 << 20
SIZE = 384 * MIB
BOOT_START = 1 * MIB
BOOT_SIZE = 31 * MIB
ROOT_START = BOOT_START + BOOT_SIZE
MBR = Path("/usr/lib/syslinux/mbr/mbr.bin")
"""440 bytes that start the active partition (package syslinux-common)."""
COMMAND_LINE = (
    "console=ttyS0,115200 panic=3 quiet mitigations=off nokaslr cryptomgr.notests"
    " 8250.nr_uarts=1 no_timer_check"
)
SYSLINUX = """\
SERIAL 0 115200
DEFAULT guest
PROMPT 0
TIMEOUT 0
LABEL guest
KERNEL vmlinuz
INITRD initrd
APPEND {command_line}
"""
GRUB = """\
search.file /vmlinuz root
linux ($root)/vmlinuz {command_line}
initrd ($root)/initrd
boot
"""
GRUB_MODULES = ("part_msdos", "fat", "search", "search_fs_file", "linux", "normal", "boot")


def build(disk: Path, root: Path, kernel: Path, initrd: bytes, work: Path) -> None:
    """Make the disk.

    Args:
        disk: the file to make, SIZE bytes, sparse.
        root: tree that becomes the root partition.
        kernel: the kernel's file.
        initrd: for the kernel.
        work: an empty directory to use.

    Raises:
        LabError: a tool failed, or the tree is larger than its partition.
    """
    if not MBR.is_file():
        raise LabError(f"{MBR} is missing", fix="apt-get install syslinux-common")
    boot = work / "boot.fat"
    _boot_partition(boot, kernel, initrd, work)
    tree = work / "root.ext4"
    # No journal, no checksums: the disk is new at every run, and the guest is slow
    ext4 = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal,^metadata_csum,^64bit"]
    ext4 += ["-E", "lazy_itable_init=0,root_owner=0:0", "-m", "0", "-L", "root", "-d", str(root)]
    run([*ext4, str(tree), f"{(SIZE - ROOT_START) // 1024}k"], timeout=600)
    disk.touch(0o644)
    with disk.open("r+b") as file:
        file.truncate(SIZE)
        file.write(MBR.read_bytes()[:440])
        file.seek(446)
        file.write(_partition(BOOT_START, BOOT_SIZE, kind=0xEF, active=True))
        file.write(_partition(ROOT_START, SIZE - ROOT_START, kind=0x83, active=False))
        file.seek(510)
        file.write(b"\x55\xaa")
    for source, start in ((boot, BOOT_START), (tree, ROOT_START)):
        to = ["dd", f"if={source}", f"of={disk}", f"seek={start // MIB}", "bs=1M"]
        run([*to, "conv=notrunc,sparse", "status=none"], timeout=600)


def _partition(start: int, size: int, *, kind: int, active: bool) -> bytes:
    """One entry of the MBR: addresses in sectors of 512 bytes, the older C/H/S ones out of use."""
    unused = b"\xfe\xff\xff"
    flag = 0x80 if active else 0
    return struct.pack("<B3sB3sII", flag, unused, kind, unused, start // 512, size // 512)


def _boot_partition(boot: Path, kernel: Path, initrd: bytes, work: Path) -> None:
    """FAT with the kernel, SYSLINUX for BIOS and GRUB for UEFI."""
    files = work / "boot"
    efi = files / "EFI/BOOT/BOOTX64.EFI"
    efi.parent.mkdir(parents=True)
    shutil.copyfile(kernel, files / "vmlinuz")
    (files / "initrd").write_bytes(initrd)
    (files / "syslinux.cfg").write_text(SYSLINUX.format(command_line=COMMAND_LINE))
    grub = work / "grub.cfg"
    grub.write_text(GRUB.format(command_line=COMMAND_LINE))
    image = ["grub-mkimage", "-O", "x86_64-efi", "-p", "/EFI/BOOT", "-c", str(grub)]
    run([*image, "-o", str(efi), *GRUB_MODULES], timeout=HANG)
    boot.touch()
    with boot.open("r+b") as file:
        file.truncate(BOOT_SIZE)
    # -h: how many sectors lie before it; SYSLINUX reads it from there
    fat = ["mkfs.vfat", "-F", "16", "-s", "4", "-g", "255/63", "-h", str(BOOT_START // 512)]
    run([*fat, "-n", "BOOT", str(boot)], timeout=HANG)
    names = sorted(str(path) for path in files.iterdir())
    run(["mcopy", "-s", "-i", str(boot), *names, "::/"], timeout=HANG)
    run(["syslinux", "--install", str(boot)], timeout=HANG)
