"""The kernel's ZFS modules: built from Debian's source package, without dkms or a chroot."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import packages
from cuckoo_zfsiscsi.lab.command import HANG, run
from cuckoo_zfsiscsi.lab.steps import Count, Steps, files

PACKAGE = "linux-image-amd64"
"""Not the cloud kernel: that one has no 9p, by which the checkout is seen inside."""
SOURCE = "zfs-dkms"
CONFIGURE = (
    "./configure",
    "--with-config=kernel",
    "--with-linux={common}",
    "--with-linux-obj={build}",
)
MAKE = ("make", "-s", "-j2")
TIMEOUT = 4 * 3600.0
"""Seconds after which a build hangs."""
STEPS = (
    "downloading ZFS and the kernel's headers",
    "asking the kernel's headers what ZFS can use",
    "compiling ZFS",
)
FIX = "scripts/setup lab"


@dataclass(frozen=True, slots=True)
class Versions:
    """What apt would install now."""

    kernel: packages.Kernel
    zfs: str

    @property
    def abi(self) -> str:
        """What uname -r says: 6.1.0-56-amd64."""
        return self.kernel.package.removeprefix("linux-image-")

    @property
    def key(self) -> str:
        """A name for all that makes the modules what they are."""
        recipe = repr((self.kernel, self.zfs, CONFIGURE, MAKE))
        return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def resolve(view: Sequence[str]) -> Versions:
    """Ask apt.

    Args:
        view: options of apt, see appliance.sources.

    Raises:
        LabError: the mirror has no ZFS, or no kernel.
    """
    kernel = packages.find_kernel(PACKAGE, view=view)
    found = re.search(r"^Version: (\S+)", packages.show(SOURCE, view=view), re.M)
    if found is None:
        raise LabError(f"apt knows no version of {SOURCE}", fix=packages.FIX)
    return Versions(kernel, found.group(1))


def place(versions: Versions, cache: Path) -> Path:
    """Return the directory of the built modules, which may not be there yet."""
    return cache / f"zfs-{versions.abi}-{versions.zfs}-{versions.key}"


def build(versions: Versions, cache: Path, view: Sequence[str], steps: Steps) -> Path:
    """Return the directory of the built modules (*.ko); built if it is not in the cache.

    Whoever calls holds the cache's lock.

    Args:
        versions: of what.
        cache: where they are kept.
        view: options of apt.
        steps: told of STEPS, among others, if it is not in the cache.

    Raises:
        LabError: apt or the compiler failed.
    """
    modules = place(versions, cache)
    if modules.exists():
        return modules
    headers = f"linux-headers-{versions.abi}"
    depends = re.search(r"^Depends: (.*)", packages.show(headers, view=view), re.M)
    needs = re.findall(r"\blinux-[^\s,]+", depends.group(1)) if depends else []
    with steps.step(STEPS[0]):
        debs = packages.download([headers, *needs, SOURCE], cache / "debs", view=view)
    with tempfile.TemporaryDirectory(prefix="building-", dir=cache) as temporary:
        work = Path(temporary)
        for deb in debs:
            run(["dpkg-deb", "-x", str(deb), str(work)], timeout=TIMEOUT)
        made = work / "modules"
        made.mkdir()
        for built in _compile(work, versions, steps):
            target = made / built.name
            run(["strip", "--strip-debug", "-o", str(target), str(built)], timeout=HANG)
        made.rename(modules)
    return modules


def _compile(work: Path, versions: Versions, steps: Steps) -> list[Path]:
    """Compile below the unpacked packages; return the modules."""
    build = work / f"usr/src/linux-headers-{versions.abi}"
    makefile = build / "Makefile"  # the one place of the packages with an absolute path
    text = makefile.read_text()
    makefile.write_text(text.replace("/usr/src/", f"{work}/usr/src/"))
    common = re.search(r"^include (\S+)/Makefile", makefile.read_text(), re.M)
    source = next((work / "usr/src").glob("zfs-*"), None)
    if common is None or source is None:
        raise LabError(f"the packages of {versions.abi} and ZFS are not laid out as expected")
    _, asking, compiling = STEPS
    trials = Count(partial(files, source / "build", ".o"), "trials")
    module = source / "module"
    objects = Count(partial(files, module, ".o"), "objects", about=files(module, ".c"))
    configure = [word.format(common=common.group(1), build=build) for word in CONFIGURE]
    try:
        with steps.step(asking, trials):
            run(configure, timeout=TIMEOUT, cwd=source)
        with steps.step(compiling, objects):
            run(MAKE, timeout=TIMEOUT, cwd=source)
    except LabError as error:
        raise LabError(f"ZFS can't be built for {versions.abi}: {error}", fix=FIX) from error
    modules = sorted(module.rglob("*.ko"))
    if not {"spl.ko", "zfs.ko"} <= {one.name for one in modules}:
        raise LabError(f"the build of ZFS made no zfs.ko for {versions.abi}")
    return modules
