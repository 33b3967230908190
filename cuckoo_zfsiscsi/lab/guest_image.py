"""The guest's disk, built once and kept: a small Linux that netboots and answers as a sandbox's."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import guest_disk, guest_root, initrd, packages
from cuckoo_zfsiscsi.lab.steps import Steps

KEEP = 2
"""Images of other inputs that stay in the cache, the newest ones."""
BUILDERS = (guest_disk, guest_root, initrd, packages)
STEPS = (*guest_root.STEPS, "making the initrd", "making the disk")

Say = Callable[[str], None]


def default_cache() -> Path:
    """Return .cache/lab of the checkout that this is part of, else one in the home directory."""
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file():
        return checkout / ".cache/lab"
    return Path.home() / ".cache/zfsiscsi-lab"


def build(cache: Path, *, progress: Say, cape: Path | None = None) -> Path:
    """Return the guest's disk: raw, 384 MB, sparse, read-only; built if it is not in the cache.

    Two builders wait for each other; what a killed one left does not count and is removed.

    Args:
        cache: directory for images and downloaded packages, made if need be.
        progress: told how far it is, a line each; see lab.steps.
        cape: a CAPE tree, whose own agent the guest gets in place of our stand-in.

    Raises:
        LabError: a package is not to be had, a tool is missing or failed.
    """
    kernel = packages.find_kernel()
    image = cache / f"guest-{key(kernel, cape)}.img"
    if image.exists():
        return image
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache, progress):
            if not image.exists():
                _build(image, kernel, progress, cape)
    except OSError as error:
        raise LabError(f"the guest's disk: {error}", fix=f"df {cache}; rm -r {cache}") from error
    return image


def key(kernel: packages.Kernel, cape: Path | None = None) -> str:
    """Return a name for all that makes the disk what it is: our files, our code, the kernel."""
    inputs = hashlib.sha256(f"{kernel.package} {kernel.version}".encode())
    files = [Path(str(module.__file__)) for module in BUILDERS]
    for path in [*files, Path(__file__), *sorted(guest_root.FILES.glob("[!_]*"))]:
        if path.is_file():
            inputs.update(f"\n{path.name}\n".encode() + path.read_bytes())
    if cape:
        inputs.update(b"\nCAPE\n" + guest_root.read_agent(cape))
    return inputs.hexdigest()[:16]


@contextmanager
def locked(cache: Path, progress: Say) -> Iterator[None]:
    """Be the only builder in a cache; what a killed one left is removed."""
    with (cache / "lock").open("w") as lock:  # given up by the kernel when we die
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another builder")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in cache.glob("building-*"):
            shutil.rmtree(left)
        yield


def _build(image: Path, kernel: packages.Kernel, progress: Say, cape: Path | None) -> None:
    steps = Steps(f"building {image.name}", STEPS, progress, image.parent)
    with tempfile.TemporaryDirectory(prefix="building-", dir=image.parent) as temporary:
        work = Path(temporary)
        for name in ("root", "initrd", "disk"):
            (work / name).mkdir()
        root = work / "root"
        root.chmod(0o755)
        guest_root.build(root, image.parent / "debs", kernel, steps, cape=cape)
        with steps.step("making the initrd"):
            ram_disk = initrd.build(root, guest_root.FILES / "initramfs-init", work / "initrd")
        shutil.rmtree(root / "usr/lib/modules")  # all that the guest needs is in the initrd
        vmlinuz = next((root / "boot").glob("vmlinuz-*"), None)
        if vmlinuz is None:
            raise LabError(f"{kernel.package} has no vmlinuz")
        vmlinuz = vmlinuz.rename(work / "vmlinuz")
        disk = work / "guest.img"
        with steps.step("making the disk"):
            guest_disk.build(disk, root, vmlinuz, ram_disk, work / "disk")
        disk.chmod(0o444)
        disk.rename(image)
    others = sorted(image.parent.glob("guest-*.img"), key=lambda path: path.stat().st_mtime)
    for old in others[: -KEEP - 1]:
        old.unlink()
    steps.end()


if __name__ == "__main__":
    sys.stdout.write(f"{build(default_cache(), progress=lambda text: print(text, flush=True))}\n")  # noqa: T201
