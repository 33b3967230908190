"""What the appliance boots from, built once and kept: a kernel, an initrd, a root file system."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import guest_image, initrd, packages
from cuckoo_zfsiscsi.lab.appliance import kernel, rootfs, sources
from cuckoo_zfsiscsi.lab.command import HANG, run
from cuckoo_zfsiscsi.lab.steps import Count, Steps

KEEP = 2
"""Images, and built modules, of other inputs that stay in the cache, the newest ones."""
INITRD_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "overlay")
TIMEOUT = 1800.0
"""Seconds after which one tool on 500 MB of files hangs."""
STEPS = ("making the appliance's initrd", "making its root file system")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Image:
    """The files to boot from; read-only, shared by all appliances."""

    folder: Path

    @property
    def vmlinuz(self) -> Path:
        """The kernel."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The kernel's first file system."""
        return self.folder / "initrd"

    @property
    def root(self) -> Path:
        """The root file system, ext4."""
        return self.folder / "root.ext4"


def default_cache() -> Path:
    """Return where images, modules, packages and kept appliances lie."""
    return guest_image.default_cache() / "appliance"


def build(cache: Path, *, progress: Say) -> Image:
    """Return the image; built if it is not in the cache, most of the time for ZFS' modules.

    Two builders wait for each other; what a killed one left does not count and is removed.

    Args:
        cache: directory for all that is built and downloaded, made if need be.
        progress: told how far it is, a line each; see lab.steps.

    Raises:
        LabError: a package is not to be had, a tool is missing or failed.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with guest_image.locked(cache, progress):
            view = sources.view(cache / "apt")
            versions = kernel.resolve(view)
            image = Image(cache / f"image-{key(versions)}")
            if not image.folder.exists():
                zfs = () if kernel.place(versions, cache).exists() else kernel.STEPS
                names = (*zfs, *rootfs.STEPS, *STEPS)
                steps = Steps("building the appliance", names, progress, cache)
                modules = kernel.build(versions, cache, view, steps)
                _build(image, versions, modules, view, steps)
                _forget(cache, image.folder, modules)
                steps.end()
    except OSError as error:
        raise LabError(f"the appliance: {error}", fix=f"df {cache}; rm -r {cache}") from error
    return image


def key(versions: kernel.Versions) -> str:
    """Return a name for all that makes the image what it is: versions, our files, our code."""
    inputs = hashlib.sha256(repr((versions, versions.key)).encode())
    code = [Path(str(module.__file__)) for module in (rootfs, initrd, packages)]
    for path in [
        *code,
        Path(__file__),
        rootfs.SERVER_PACKAGES,
        rootfs.MODPROBE,
        *sorted(rootfs.FILES.glob("[!_]*")),
    ]:
        inputs.update(f"\n{path.name}\n".encode() + path.read_bytes())
    return inputs.hexdigest()[:16]


def _build(
    image: Image, versions: kernel.Versions, modules: Path, view: list[str], steps: Steps
) -> None:
    cache = image.folder.parent
    with tempfile.TemporaryDirectory(prefix="building-", dir=cache) as temporary:
        work = Path(temporary)
        made = Image(work / "image")
        for folder in (work / "root", work / "initrd", made.folder):
            folder.mkdir()
        root = work / "root"
        root.chmod(0o755)
        rootfs.build(root, versions, modules, cache / "debs", view, steps)
        ram_disk, file_system = STEPS
        with steps.step(ram_disk):
            made.initrd.write_bytes(_initrd(root, work / "initrd"))
        (root / "boot/vmlinuz").rename(made.vmlinuz)
        size = int(run(["du", "-sm", str(root)], timeout=TIMEOUT).split()[0]) * 5 // 4 + 64
        mke2fs = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", str(root)]
        with steps.step(file_system, Count(partial(_written, made.root), "MiB")):
            run([*mke2fs, str(made.root), f"{size}M"], timeout=TIMEOUT)
        for path in (made.vmlinuz, made.initrd, made.root):
            path.chmod(0o444)
        made.folder.rename(image.folder)


def _written(file: Path) -> int:
    """Return how much of a sparse file is there, in MiB."""
    return file.stat().st_blocks * 512 >> 20


def _initrd(root: Path, work: Path) -> bytes:
    """Make the initrd, as the kernel reads it."""
    folders = ("bin", "dev", "proc", "sys", "lower", "changes", "newroot", "modules", "lib64")
    for folder in folders:
        (work / folder).mkdir()
    (work / "lib").symlink_to("lib64")
    busybox = root / "usr/bin/busybox"
    initrd.copy_program(busybox, work / "bin/busybox")
    for library in initrd.libraries(root, busybox):
        initrd.copy_program(library, work / "lib64" / library.name)
    for applet in run(["chroot", str(root), "busybox", "--list"], timeout=HANG).split():
        if applet != "busybox":
            (work / "bin" / applet).symlink_to("busybox")
    for number, module in enumerate(initrd.modules(root / "usr/lib/modules", INITRD_MODULES)):
        shutil.copyfile(module, work / f"modules/{number:02}-{initrd.name_of(module)}.ko")
    initrd.copy_program(rootfs.FILES / "initramfs-init", work / "init")
    return initrd.pack(work)


def _forget(cache: Path, *used: Path) -> None:
    """Remove all but the newest of what was built of other inputs."""
    for pattern in ("image-*", "zfs-*"):
        others = [path for path in cache.glob(pattern) if path not in used]
        for old in sorted(others, key=lambda path: path.stat().st_mtime)[:-KEEP]:
            shutil.rmtree(old)
