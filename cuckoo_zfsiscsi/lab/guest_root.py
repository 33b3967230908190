"""The guest's root tree: Debian packages without what no test needs, and our own few files."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import packages
from cuckoo_zfsiscsi.lab.command import HANG, run
from cuckoo_zfsiscsi.lab.steps import Count, Steps, files

FILES = Path(__file__).parent / "guest"
"""What is ours in the guest."""
PACKAGES = ("samba", "open-iscsi", "busybox-static", "python3")
CAPE_PACKAGES = ("python-is-python3", "python3-pyinotify", "strace")
"""What CAPE's analyzer needs beside Python."""
CAPE_AGENT = Path("agent/agent.py")
"""In a CAPE tree."""
LEAVE_OUT = (
    "debconf",
    "dpkg",
    "initramfs-tools",
    "initramfs-tools-core",
    "libperl5.36",
    "linux-base",
    "perl",
    "perl-base",
    "perl-modules-5.36",
    "procps",
    "python3-dnspython",
    "python3-samba",
    "systemd",
    "tar",
    "udev",
    "usrmerge",
)
"""Dependencies of the packages' scripts or of other parts of them: larger than they are useful."""
EXCLUDE = (
    "./usr/share/doc",
    "./usr/share/locale",
    "./usr/share/man",
    "./usr/share/i18n",
    "./usr/share/samba/setup",
    "./usr/lib/x86_64-linux-gnu/gconv",
    "./boot/System.map*",
    "./lib/modules/*/kernel/sound",
)
FOLDERS = ("boot", "dev", "guest", "mnt", "proc", "root", "run", "sys", "tmp", "var/log/samba")
STEPS = ("downloading packages", "unpacking them", "compiling Python's modules")
WARM = "import http.server, json, platform, shutil, socketserver, subprocess, tempfile, zipfile"
"""Compiled now: the guest would compile it anew at every boot, as each disk is new."""
CAPE_WARM = """
import argparse, asyncio, base64, configparser, datetime, email.parser, email.policy, glob, hashlib
import http.server, inspect, logging.handlers, pkgutil, platform, queue, random, secrets, shlex, ssl
import tempfile, timeit, traceback, urllib.request, xml.etree.ElementTree, zipfile
"""
"""The same for CAPE's agent and analyzer."""


def build(
    root: Path,
    debs: Path,
    kernel: packages.Kernel,
    steps: Steps,
    *,
    cape: Path | None = None,
) -> None:
    """Fill a root tree.

    Args:
        root: an empty directory.
        debs: where downloaded packages are kept.
        kernel: the kernel to put in.
        steps: told of STEPS, among others.
        cape: a CAPE tree, whose own agent the guest gets in place of our stand-in.

    Raises:
        LabError: apt or a package failed, or the CAPE tree has no agent.
    """
    download, unpack, compiling = STEPS
    names = [*PACKAGES, *(CAPE_PACKAGES if cape else ()), kernel.package]
    with steps.step(download, Count(partial(files, debs, ".deb"), "packages there")):
        found = packages.fetch(names, debs)
    wanted = [deb for name, deb in found.items() if name not in LEAVE_OUT]
    with steps.step(unpack, Count(partial(files, root), "files")):
        packages.unpack(wanted, root, exclude=EXCLUDE)
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    busybox = root / "usr/bin/busybox"
    if not busybox.exists():
        raise LabError("the guest's packages have no usr/bin/busybox")
    for applet in run([str(busybox), "--list"], timeout=HANG).split():
        if not any(
            (root / "usr" / way / applet).is_symlink() or (root / "usr" / way / applet).exists()
            for way in ("bin", "sbin")
        ):
            (root / "usr/bin" / applet).symlink_to("busybox")
    _configure(root)
    if cape:
        _take_cape(root, cape)
    python = ["chroot", str(root), "/usr/bin/python3", "-W", "ignore"]
    with steps.step(compiling, Count(partial(files, root, ".pyc"), "modules")):
        run(
            [*python, "-c", CAPE_WARM if cape else WARM],
            timeout=600,
            env={"PYTHONDONTWRITEBYTECODE": ""},
        )


def _configure(root: Path) -> None:
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
    )
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    # CAPE's agent looks its own name up before it runs anything
    (root / "etc/hosts").write_text("127.0.0.1 localhost guest\n")
    (root / "etc/samba").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(FILES / "smb.conf", root / "etc/samba/smb.conf")
    for name in ("init", "epm", "agent.py", "udhcpc"):
        shutil.copyfile(FILES / name, root / "guest" / name)
        (root / "guest" / name).chmod(0o755)


def read_agent(cape: Path) -> bytes:
    """Return CAPE's agent.

    Raises:
        LabError: this is no CAPE tree.
    """
    try:
        return (cape / CAPE_AGENT).read_bytes()
    except OSError as error:
        raise LabError(
            f"{cape / CAPE_AGENT}: {error.strerror}", fix="give the folder of a CAPE checkout"
        ) from None


def _take_cape(root: Path, cape: Path) -> None:
    """Put in CAPE's own agent, and what its analyzer calls."""
    (root / "guest/agent.py").write_bytes(read_agent(cape))
    for name in ("sudo", "date"):
        program = root / "usr/bin" / name
        program.unlink(missing_ok=True)
        shutil.copyfile(FILES / name, program)
        program.chmod(0o755)
