"""The image, built from few packages: real ones for what runs while it is built."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import packages
from cuckoo_zfsiscsi.lab.appliance import image, kernel, rootfs, sources
from tests.lab.appliance.test_kernel import ABI, VERSIONS, deb

MODULE = "\x7fELF\0license=GPL\0depends={}\0name=x\0"
Build = Callable[[], image.Image]


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return what is run inside while an image is built, from the machine's own mirrors."""
    return packages.fetch(["busybox", "kmod", "libc-bin"], tmp_path_factory.mktemp("debs"))


@pytest.fixture
def cache(tmp_path: Path, real: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache; what is built in it is small, and boots nothing."""
    modules = f"lib/modules/{ABI}"
    kernel_deb = deb(
        tmp_path,
        "kernel",
        {
            f"boot/vmlinuz-{ABI}": "kernel",
            f"{modules}/kernel/fs/ext4.ko": MODULE.format("crc-x"),
            f"{modules}/kernel/lib/crc-x.ko": MODULE.format(""),
            f"{modules}/kernel/sound/beep.ko": MODULE.format(""),
            f"{modules}/modules.order": "",
            f"{modules}/modules.builtin": "kernel/fs/overlayfs/overlay.ko\n",
            f"{modules}/modules.builtin.modinfo": "",
        },
    )
    python = '#!/bin/busybox sh\necho "$@" >/compiled\n'
    extra = deb(
        tmp_path,
        "extra",
        {"usr/bin/python3": python, "usr/lib/python3.11/os.py": "", "usr/share/doc/x/readme": "x"},
    )
    monkeypatch.setattr(sources, "view", lambda _folder: ["-v"])
    monkeypatch.setattr(kernel, "resolve", lambda _view: VERSIONS)
    monkeypatch.setattr(packages, "fetch", lambda _names, _debs, view: {**real, "extra": extra})
    monkeypatch.setattr(packages, "download", lambda _names, _debs, view: [kernel_deb])
    monkeypatch.setattr(rootfs, "MODULES", ("ext4", "overlay"))
    made = tmp_path / "cache"
    zfs = made / f"zfs-{ABI}-{VERSIONS.zfs}-{VERSIONS.key}"
    zfs.mkdir(parents=True)
    (zfs / "zfs.ko").write_bytes(Path("/bin/true").read_bytes())
    return made


def debugfs(disk: Path, command: str) -> str:
    done = subprocess.run(["debugfs", "-R", command, disk], capture_output=True, text=True)
    return done.stdout + done.stderr


def test_build_and_what_is_in_it(cache: Path) -> None:
    said: list[str] = []
    made = image.build(cache, progress=said.append)
    assert said[0].startswith("building the appliance, 6 steps: never built here")
    assert said[-1].startswith("building the appliance: built in ")
    assert [line.partition(",")[0] for line in said[1:-1]] == [f"{step}/6" for step in range(1, 7)]
    assert made.vmlinuz.read_bytes() == b"kernel"
    assert {path.stat().st_mode & 0o222 for path in made.folder.iterdir()} == {0}
    assert not list(cache.glob("building-*"))

    for path in ("/appliance/init", "/appliance/agent.py", "/etc/hosts", "/usr/bin/awk"):
        assert "Inode:" in debugfs(made.root, f"stat {path}"), path
    assert "File not found" in debugfs(made.root, "stat /usr/share/doc/x")
    assert "not found" in debugfs(made.root, f"stat /usr/lib/modules/{ABI}/kernel/sound")
    assert "/usr/lib/python3.11" in debugfs(made.root, "cat /compiled")
    depends = debugfs(made.root, f"cat /usr/lib/modules/{ABI}/modules.dep")
    assert {"kernel/fs/ext4.ko", "kernel/lib/crc-x.ko", "extra/zfs.ko"} == {
        line.partition(":")[0] for line in depends.splitlines() if line and "debugfs" not in line
    }
    pth = debugfs(made.root, "cat /usr/local/lib/python3.11/dist-packages/checkout.pth")
    assert "addsitedir" in pth

    listing = subprocess.run(
        ["cpio", "-it", "--quiet"],
        input=gzip.decompress(made.initrd.read_bytes()),
        capture_output=True,
        check=True,
    ).stdout.decode()
    modules = [name for name in listing.split() if name.endswith(".ko")]
    assert modules == ["modules/00-crc_x.ko", "modules/01-ext4.ko"]
    assert {"init", "bin/busybox", "bin/mount", "lib64/libc.so.6"} <= set(listing.split())


def test_built_once_and_few_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        old = cache / f"image-{number}"
        old.mkdir()
        os.utime(old, (number, number))
    made = image.build(cache, progress=lambda _: None)
    left = sorted(path.name for path in cache.glob("image-*") if path != made.folder)
    assert left == ["image-2", "image-3"]
    assert list(cache.glob("zfs-*"))
    said: list[str] = []
    assert image.build(cache, progress=said.append) == made
    assert not said


def test_a_module_that_the_kernel_lacks(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootfs, "MODULES", ("ext4", "target_core_mod"))
    with pytest.raises(LabError, match=f"{ABI} has no module target_core_mod"):
        image.build(cache, progress=lambda _: None)
    assert not list(cache.glob("image-*"))


def test_no_room_for_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="Not a directory"):
        image.build(tmp_path / "file" / "cache", progress=lambda _: None)


def test_every_input_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {image.key(VERSIONS), image.key(replace(VERSIONS, zfs="2.9-2"))}
    server = tmp_path / "server"
    server.write_text("another-package\n")
    monkeypatch.setattr(rootfs, "SERVER_PACKAGES", server)
    keys.add(image.key(VERSIONS))
    monkeypatch.setattr(rootfs, "MODPROBE", server)
    keys.add(image.key(VERSIONS))
    files = tmp_path / "guest"
    files.mkdir()
    monkeypatch.setattr(rootfs, "FILES", files)
    keys.add(image.key(VERSIONS))
    (files / "init").write_text("#!/bin/sh\n")
    keys.add(image.key(VERSIONS))
    assert len(keys) == 6


def test_what_the_service_needs_is_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"dnsmasq-base", "ipxe", "qemu-utils", "ipmitool"} <= set(rootfs.server_packages())
    server = tmp_path / "server"
    server.write_text("# Needed\ntgt  # no\n\npython3-venv\niproute2 # yes\n")
    monkeypatch.setattr(rootfs, "SERVER_PACKAGES", server)
    assert rootfs.server_packages() == ["iproute2"]


def test_it_lies_beside_the_guests_disk() -> None:
    assert image.default_cache().name == "appliance"
