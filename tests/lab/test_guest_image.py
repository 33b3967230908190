from __future__ import annotations

import gzip
import lzma
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import guest_disk, guest_image, guest_root, initrd, packages
from cuckoo_zfsiscsi.lab.packages import Kernel
from cuckoo_zfsiscsi.lab.steps import RECORD
from tests.waiting import HANG

KERNEL = Kernel("lab-test-kernel", "6.1-1")
MODULE = b"\x7fELF\0license=GPL\0depends=%s\0name=x\0"
SIZE = 80 << 20


@pytest.fixture(scope="session")
def small_debs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a few real packages, and one of ours in the place of all the others."""
    folder = tmp_path_factory.mktemp("debs")
    debs = packages.fetch(["busybox-static", "libc6"], folder)
    tree = folder / "tree"
    modules = tree / "lib/modules/6.1/kernel"
    for made in ("DEBIAN", "boot", "usr/sbin", "usr/bin", "usr/share/doc/x"):
        (tree / made).mkdir(parents=True)
    modules.mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {KERNEL.package}\nVersion: {KERNEL.version}\nArchitecture: amd64\n"
        "Maintainer: nobody <nobody@example.org>\nDescription: for a test\n"
    )
    (tree / "boot/vmlinuz-6.1").write_bytes(b"kernel" * 1000)
    (tree / "usr/share/doc/x/readme").write_text("left out")
    (tree / "usr/sbin/iscsistart").write_bytes(Path("/bin/true").read_bytes())
    (tree / "usr/sbin/iscsistart").chmod(0o755)
    python = tree / "usr/bin/python3"
    python.write_text("#!/bin/busybox sh\nexit 0\n")
    python.chmod(0o755)
    (modules / "ext4.ko").write_bytes(MODULE % b"mbcache,crc16")
    (modules / "crc16.ko").write_bytes(MODULE % b"")
    (modules / "mbcache.ko.xz").write_bytes(lzma.compress(MODULE % b"gone"))
    (modules / "virtio-pci.ko").write_bytes(b"\x7fELF no modinfo")
    deb = folder / "ours.deb"
    subprocess.run(["dpkg-deb", "--build", tree, deb], check=True, stdout=subprocess.DEVNULL)
    return {**debs, KERNEL.package: deb}


@pytest.fixture
def small(small_debs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a guest that is built in a second or two, and boots nothing."""
    monkeypatch.setattr(packages, "find_kernel", lambda: KERNEL)
    monkeypatch.setattr(packages, "fetch", lambda _names, _folder: small_debs)
    monkeypatch.setattr(guest_disk, "SIZE", SIZE)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.mark.usefixtures("small")
def test_build_and_what_is_in_it(tmp_path: Path, said: list[str]) -> None:
    cache = tmp_path / "cache"
    image = guest_image.build(cache, progress=said.append)
    assert image == cache / f"guest-{guest_image.key(KERNEL)}.img"
    assert image.stat().st_size == SIZE
    assert image.stat().st_blocks * 512 < SIZE // 2
    assert image.stat().st_mode & 0o222 == 0
    assert said[0].startswith(f"building {image.name}, 5 steps: never built here")
    assert said[1] == "1/5, 0 s: downloading packages"
    assert said[5].endswith(": making the disk")
    assert {path.name for path in cache.iterdir()} == {image.name, "lock", RECORD}

    with image.open("rb") as file:
        mbr = file.read(512)
        file.seek(guest_disk.BOOT_START)
        boot = file.read(512)
    assert mbr[510:] == b"\x55\xaa"
    assert (mbr[446], mbr[450], mbr[466]) == (0x80, 0xEF, 0x83)
    assert b"SYSLINUX" in boot
    fat = f"{image}@@{guest_disk.BOOT_START}"
    listing = subprocess.run(["mdir", "-b", "-/", "-i", fat], capture_output=True, text=True)
    assert {"::/vmlinuz", "::/initrd", "::/syslinux.cfg", "::/EFI/BOOT/BOOTX64.EFI"} <= set(
        listing.stdout.split()
    )
    root = f"{image}?offset={guest_disk.ROOT_START}"
    files = debugfs(root, "ls -p /guest")
    assert {"init", "epm", "agent.py"} <= set(re.findall(r"/([^/]+)/\d*/$", files, re.M))
    assert "Uid:     0" in debugfs(root, "stat /guest/init").replace("User: ", "Uid: ")
    assert "File not found" in debugfs(root, "stat /usr/share/doc")
    assert "busybox" in debugfs(root, "stat /usr/bin/awk")
    assert "rpc start on demand helpers" in debugfs(root, "cat /etc/samba/smb.conf")
    assert "127.0.0.1 localhost guest" in debugfs(root, "cat /etc/hosts")
    assert "resolv.conf" in debugfs(root, "cat /guest/udhcpc")


def debugfs(disk: str, command: str) -> str:
    done = subprocess.run(["debugfs", "-R", command, disk], capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.usefixtures("small")
def test_with_capes_own_agent(tmp_path: Path, said: list[str]) -> None:
    cape = tmp_path / "CAPEv2"
    (cape / "agent").mkdir(parents=True)
    with pytest.raises(LabError, match=r"agent/agent\.py: No such file.*checkout"):
        guest_image.build(tmp_path / "cache", progress=said.append, cape=cape)
    agent = cape / "agent/agent.py"
    agent.write_text("# the real agent\n")
    image = guest_image.build(tmp_path / "cache", progress=said.append, cape=cape)
    assert image.name != f"guest-{guest_image.key(KERNEL)}.img"
    root = f"{image}?offset={guest_disk.ROOT_START}"
    assert "# the real agent" in debugfs(root, "cat /guest/agent.py")
    assert 'exec "$@"' in debugfs(root, "cat /usr/bin/sudo")
    assert "-s ] && exit 0" in debugfs(root, "cat /usr/bin/date")
    agent.write_text("# a newer one\n")
    assert guest_image.key(KERNEL, cape) not in image.name


@pytest.mark.usefixtures("small")
def test_built_once(tmp_path: Path, said: list[str]) -> None:
    image = guest_image.build(tmp_path, progress=said.append)
    before = image.stat()
    said.clear()
    assert guest_image.build(tmp_path, progress=said.append) == image
    assert said == []
    assert image.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.usefixtures("small")
def test_two_builders_wait_for_each_other(tmp_path: Path) -> None:
    heard: list[list[str]] = [[], []]
    waits = threading.Event()

    def build(said: list[str]) -> None:
        def say(line: str) -> None:
            said.append(line)
            if line == "waiting for another builder":
                waits.set()
            else:  # the one that builds is not done before the other has come
                assert waits.wait(HANG)

        guest_image.build(tmp_path, progress=say)

    threads = [threading.Thread(target=build, args=(said,)) for said in heard]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted("waiting for another builder" in said for said in heard) == [False, True]
    assert sorted(len(said) for said in heard) == [1, 7], heard


@pytest.mark.usefixtures("small")
def test_a_failed_build_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(guest_disk, "MBR", tmp_path / "no.bin")
        with pytest.raises(LabError, match=r"no\.bin is missing"):
            guest_image.build(tmp_path, progress=said.append)
    assert {path.name for path in tmp_path.iterdir()} == {"lock", RECORD}
    assert guest_image.build(tmp_path, progress=said.append).exists()


def test_a_killed_build_does_not_count(
    tmp_path: Path, small_debs: dict[str, Path], small: None, said: list[str]
) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from cuckoo_zfsiscsi.lab import guest_image, guest_disk, packages\n"
        f"packages.find_kernel = lambda: packages.Kernel{(KERNEL.package, KERNEL.version)}\n"
        f"packages.fetch = lambda *_: {{k: Path(v) for k, v in {as_text(small_debs)}.items()}}\n"
        "guest_disk.build = lambda *_: (print('there', flush=True), time.sleep(60))\n"
        f"guest_image.build(Path({str(tmp_path)!r}), progress=lambda _: None)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as builder:
        assert builder.stdout
        assert builder.stdout.readline() == b"there\n"
        builder.send_signal(signal.SIGKILL)
    assert list(tmp_path.glob("building-*"))
    assert not list(tmp_path.glob("guest-*"))
    image = guest_image.build(tmp_path, progress=said.append)
    assert not list(tmp_path.glob("building-*"))
    assert image.exists()
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def as_text(paths: dict[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in paths.items()}


@pytest.mark.usefixtures("small")
def test_old_images_go(tmp_path: Path, said: list[str]) -> None:
    for age in range(4):
        old = tmp_path / f"guest-{age}.img"
        old.touch()
        os.utime(old, (1000 - age, 1000 - age))
    image = guest_image.build(tmp_path, progress=said.append)
    left = {path.name for path in tmp_path.glob("guest-*.img")}
    assert left == {image.name, "guest-0.img", "guest-1.img"}


@pytest.mark.usefixtures("small")
def test_a_cache_that_can_not_be(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="Not a directory"):
        guest_image.build(tmp_path / "file/cache", progress=said.append)


def test_every_input_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {guest_image.key(KERNEL), guest_image.key(Kernel(KERNEL.package, "6.1-2"))}
    for name in ("init", "agent.py"):
        (tmp_path / name).write_text("one")
    monkeypatch.setattr(guest_root, "FILES", tmp_path)
    keys.add(guest_image.key(KERNEL))
    (tmp_path / "agent.py").write_text("two")
    keys.add(guest_image.key(KERNEL))
    (tmp_path / "__pycache__").mkdir()
    assert guest_image.key(KERNEL) in keys
    assert len(keys) == 4


def test_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = Path(guest_image.__file__).parents[2]
    assert guest_image.default_cache() == checkout / ".cache/lab"
    monkeypatch.setattr(guest_image, "__file__", str(tmp_path / "a/b/c.py"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert guest_image.default_cache() == tmp_path / ".cache/zfsiscsi-lab"


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("usr/bin/busybox", "busybox"),
        ("boot/vmlinuz-6.1", "no vmlinuz"),
        ("usr/sbin/iscsistart", "no iscsistart"),
        ("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "no ld-linux"),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", r"no libc\.so\.6"),
    ],
)
@pytest.mark.usefixtures("small")
def test_a_package_lacks_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str, said: str
) -> None:
    extract = packages.extract

    def lose(deb: Path, root: Path, *, exclude: tuple[str, ...] = ()) -> None:
        extract(deb, root, exclude=exclude)
        (root / lost).unlink(missing_ok=True)

    monkeypatch.setattr(packages, "extract", lose)
    with pytest.raises(LabError, match=said):
        guest_image.build(tmp_path, progress=lambda _: None)


def test_the_initrd(small_debs: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "root"
    packages.unpack(small_debs.values(), root)
    work = tmp_path / "work"
    work.mkdir()
    data = initrd.build(root, guest_root.FILES / "initramfs-init", work)
    listing = subprocess.run(
        ["cpio", "-it", "--quiet"], input=gzip.decompress(data), capture_output=True, check=True
    )
    names = listing.stdout.decode().split()
    assert {"init", "bin/busybox", "bin/iscsistart", "bin/sh", "lib64/libc.so.6"} <= set(names)
    assert "lib64/ld-linux-x86-64.so.2" in names
    modules = [name for name in names if name.endswith(".ko")]
    assert modules == [
        "modules/00-virtio_pci.ko",
        "modules/01-mbcache.ko",
        "modules/02-crc16.ko",
        "modules/03-ext4.ko",
    ]
    assert (work / "modules/01-mbcache.ko").read_bytes().startswith(b"\x7fELF")


def test_apt_knows_a_kernel() -> None:
    kernel = packages.find_kernel()
    assert re.fullmatch(r"linux-image-\d.*-cloud-amd64", kernel.package)
    assert kernel.version[0].isdigit()


def test_apt_is_asked_again_after_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def run(argv: list[str], *, timeout: float) -> str:
        asked.append(argv[1])
        assert timeout
        if argv[0] == "apt-cache" and asked.count("update") == 0:
            raise LabError("N: No packages found")
        return "Package: x\nDepends: linux-image-6.9-cloud-amd64 (= 6.9-1)\n"

    monkeypatch.setattr(packages, "run", run)
    assert packages.find_kernel() == Kernel("linux-image-6.9-cloud-amd64", "6.9-1")
    assert asked == ["--no-all-versions", "update", "--no-all-versions"]
    monkeypatch.setattr(packages, "run", lambda _argv, *, timeout: str(timeout))
    with pytest.raises(LabError, match="apt knows no kernel"):
        packages.find_kernel()


def test_lists_older_than_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def run(argv: list[str], *, timeout: float) -> str:
        assert timeout
        asked.append("update" if "update" in argv else argv[-3])
        if asked == ["--download-only"]:
            raise LabError("404  Not Found")
        return "Inst libc6:i386 (2.36-9 Debian:12/stable [i386])\n"

    monkeypatch.setattr(packages, "run", run)
    with pytest.raises(LabError, match=r"did not download libc6_2\.36-9_i386\.deb"):
        packages.fetch(["libc6"], tmp_path)
    assert asked == ["--download-only", "update", "--download-only", "--simulate"]


def test_a_damaged_package(tmp_path: Path) -> None:
    deb = tmp_path / "bad.deb"
    deb.write_bytes(b"not a package")
    with pytest.raises(LabError, match=r"bad\.deb can't be unpacked") as error:
        packages.extract(deb, tmp_path)
    assert error.value.fix == f"rm {deb}"


def test_a_tree_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_disk, "SIZE", 40 << 20)
    for name in ("root", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "root/large").write_bytes(os.urandom(10 << 20))
    (tmp_path / "kernel").write_bytes(b"kernel")
    with pytest.raises(LabError, match="mke2fs"):
        guest_disk.build(
            tmp_path / "disk", tmp_path / "root", tmp_path / "kernel", b"", tmp_path / "work"
        )
