"""The kernel's ZFS modules: built from Debian's source package, without dkms or a chroot."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import packages
from cuckoo_zfsiscsi.lab.command import run

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
TIMEOUT = 3600.0
"""Seconds: 300 with two cores of their own, a busy machine takes several times that."""
FIX = "scripts/setup lab"

Say = Callable[[str], None]


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


def build(versions: Versions, cache: Path, view: Sequence[str], say: Say) -> Path:
    """Return the directory of the built modules (*.ko); built if it is not in the cache.

    Whoever calls holds the cache's lock.

    Args:
        versions: of what.
        cache: where they are kept.
        view: options of apt.
        say: told what is being done.

    Raises:
        LabError: apt or the compiler failed.
    """
    modules = cache / f"zfs-{versions.abi}-{versions.zfs}-{versions.key}"
    if modules.exists():
        return modules
    say(f"downloading ZFS {versions.zfs} and the headers of {versions.abi}")
    headers = f"linux-headers-{versions.abi}"
    depends = re.search(r"^Depends: (.*)", packages.show(headers, view=view), re.M)
    needs = re.findall(r"\blinux-[^\s,]+", depends.group(1)) if depends else []
    debs = packages.download([headers, *needs, SOURCE], cache / "debs", view=view)
    with tempfile.TemporaryDirectory(prefix="building-", dir=cache) as temporary:
        work = Path(temporary)
        for deb in debs:
            run(["dpkg-deb", "-x", str(deb), str(work)], timeout=TIMEOUT)
        made = work / "modules"
        made.mkdir()
        for module in _compile(work, versions, say):
            target = made / module.name
            run(["strip", "--strip-debug", "-o", str(target), str(module)], timeout=60)
        made.rename(modules)
    say(f"built ZFS {versions.zfs} for {versions.abi}")
    return modules


def _compile(work: Path, versions: Versions, say: Say) -> list[Path]:
    """Compile below the unpacked packages; return the modules."""
    build = work / f"usr/src/linux-headers-{versions.abi}"
    makefile = build / "Makefile"  # the one place of the packages with an absolute path
    text = makefile.read_text()
    makefile.write_text(text.replace("/usr/src/", f"{work}/usr/src/"))
    common = re.search(r"^include (\S+)/Makefile", makefile.read_text(), re.M)
    source = next((work / "usr/src").glob("zfs-*"), None)
    if common is None or source is None:
        raise LabError(f"the packages of {versions.abi} and ZFS are not laid out as expected")
    say("asking the kernel's headers what ZFS can use (2 minutes)")
    configure = [word.format(common=common.group(1), build=build) for word in CONFIGURE]
    try:
        run(configure, timeout=TIMEOUT, cwd=source)
        say("compiling ZFS (4 minutes on two cores)")
        run(MAKE, timeout=TIMEOUT, cwd=source)
    except LabError as error:
        raise LabError(f"ZFS can't be built for {versions.abi}: {error}", fix=FIX) from error
    modules = sorted((source / "module").rglob("*.ko"))
    if not {"spl.ko", "zfs.ko"} <= {module.name for module in modules}:
        raise LabError(f"the build of ZFS made no zfs.ko for {versions.abi}")
    return modules
