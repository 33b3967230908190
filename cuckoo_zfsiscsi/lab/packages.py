"""Debian packages for the guest, from wherever this machine's own apt gets its packages.

No host is named here: apt's sources, keys, proxies and package lists of the machine are used,
against an empty database of installed packages, so that the answer is complete in itself.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab.command import run

KERNEL = "linux-image-cloud-amd64"
"""Debian's kernel for virtual machines: the virtio NIC and iBFT, and little else."""
FIX = "apt-get update, and see that /etc/apt names a Debian mirror"
TIMEOUT = 1800.0
"""Seconds after which one call of apt is given up: a slow mirror, 80 MB."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel that apt would install now."""

    package: str
    version: str


def find_kernel(name: str = KERNEL, *, view: Sequence[str] = ()) -> Kernel:
    """Ask apt; update its lists if it does not know.

    Args:
        name: the package that always depends on the newest kernel.
        view: options of apt, see appliance.sources.

    Raises:
        LabError: there is none.
    """
    about = show(name, view=view)
    if found := re.search(r"^Depends:.*?\b(linux-image-\d\S+) \(= (\S+)\)", about, re.M):
        return Kernel(*found.groups())
    raise LabError(f"apt knows no kernel of {name}", fix=FIX)


def show(name: str, *, view: Sequence[str] = ()) -> str:
    """Return what apt knows of the version it would install; update its lists if it is nothing.

    Args:
        name: of the package.
        view: options of apt, see appliance.sources.

    Raises:
        LabError: there is no such package.
    """
    for attempt in range(2):
        with contextlib.suppress(LabError):
            about = run(["apt-cache", *view, "--no-all-versions", "show", name], timeout=TIMEOUT)
            if about:
                return about
        if not attempt:
            run(["apt-get", *view, "update"], timeout=TIMEOUT)
    raise LabError(f"apt knows no package {name}", fix=FIX)


def download(names: Sequence[str], folder: Path, *, view: Sequence[str] = ()) -> list[Path]:
    """Download these packages alone; what is there already is kept.

    Args:
        names: packages wanted.
        folder: where the .deb files stay for the next time.
        view: options of apt, see appliance.sources.

    Returns:
        Their .deb files.

    Raises:
        LabError: apt can't.
    """
    folder.mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", *view, "download", *names]
    uris = run([*apt, "--print-uris"], timeout=TIMEOUT)
    debs = [folder / name for name in re.findall(r"^'[^']+' (\S+\.deb) ", uris, re.M)]
    if not all(deb.is_file() for deb in debs):
        run(apt, timeout=TIMEOUT, cwd=folder)
    return debs


def fetch(names: Sequence[str], folder: Path, *, view: Sequence[str] = ()) -> dict[str, Path]:
    """Download packages and all that they depend on; what is there already is kept.

    Args:
        names: packages wanted.
        folder: where the .deb files stay for the next time.
        view: options of apt, see appliance.sources.

    Returns:
        The .deb file of each package, by package name.

    Raises:
        LabError: apt can't.
    """
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    status = folder / "status"
    status.touch()
    apt = ["apt-get", "-q", "-y", "--no-install-recommends", *view]
    for option in (
        f"Dir::State::status={status}",
        f"Dir::State::extended_states={folder / 'extended_states'}",
        f"Dir::Cache::archives={folder}",
        "Debug::NoLocking=1",
        "APT::Sandbox::User=root",
    ):
        apt += ["-o", option]
    try:
        run([*apt, "--download-only", "install", *names], timeout=TIMEOUT)
    except LabError:  # the lists may be older than what the mirror still has
        run(["apt-get", *view, "update"], timeout=TIMEOUT)
        run([*apt, "--download-only", "install", *names], timeout=TIMEOUT)
    plan = run([*apt, "--simulate", "install", *names], timeout=TIMEOUT)
    debs = {}
    for name, version, arch in re.findall(r"^Inst (\S+) \((\S+) .*\[(\S+)\]\)", plan, re.M):
        name = name.partition(":")[0]
        debs[name] = folder / f"{name}_{version.replace(':', '%3a')}_{arch}.deb"
        if not debs[name].is_file():
            raise LabError(f"apt did not download {debs[name].name}", fix=FIX)
    return debs


def unpack(debs: Iterable[Path], root: Path, *, exclude: Sequence[str] = ()) -> None:
    """Make a tree with one /usr, as Debian's base-files does, and unpack packages into it.

    Args:
        debs: the packages.
        root: an empty directory.
        exclude: as of extract().

    Raises:
        LabError: as extract().
    """
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for deb in debs:
        extract(deb, root, exclude=exclude)


def extract(deb: Path, root: Path, *, exclude: Sequence[str] = ()) -> None:
    """Unpack a package's files into a tree, without running its scripts.

    Args:
        deb: the package.
        root: the tree; its links of merged-/usr are followed.
        exclude: patterns of tar, like ./usr/share/doc.

    Raises:
        LabError: it is damaged, or the disk is full.
    """
    tar = ["tar", "-x", "-C", str(root), "--keep-directory-symlink"]
    tar += [f"--exclude={pattern}" for pattern in exclude]
    unpack = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with subprocess.Popen(unpack, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as out:
        done = subprocess.run(tar, stdin=out.stdout, stderr=subprocess.PIPE, check=False)
        said = (done.stderr + (out.stderr.read() if out.stderr else b"")).decode(errors="replace")
    if done.returncode or out.returncode:
        raise LabError(f"{deb.name} can't be unpacked: {said.strip()}", fix=f"rm {deb}")
