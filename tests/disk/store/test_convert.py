from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.store import convert as module
from cuckoo_zfsiscsi.disk.store.convert import Source, convert, inspect
from cuckoo_zfsiscsi.errors import (
    CancelledError,
    DeadlineExceededError,
    ImageError,
    StoreFullError,
)
from cuckoo_zfsiscsi.progress import silent
from tests.disk.content import MIB, make_raw
from tests.waiting import HANG

FORMATS = {
    "raw": ["raw"],
    "qcow2": ["qcow2"],
    "qcow2-old": ["qcow2", "-o", "compat=0.10"],
    "qcow2-compressed": ["qcow2", "-c"],
    "vhdx": ["vhdx"],
    "vmdk": ["vmdk"],
    "vmdk-stream": ["vmdk", "-o", "subformat=streamOptimized"],
}


def make(path: Path, kind: str, size: int = 4 * MIB) -> Path:
    """Make a disk file of this kind; PATH.raw has its content."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(os.urandom(size))
    qemu_img("convert", "-f", "raw", "-O", *FORMATS[kind], raw, path)
    return path


def qemu_img(*arguments: str | Path) -> None:
    subprocess.run(["qemu-img", *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("kind", FORMATS)
def test_has_the_content_of_every_format(tmp_path: Path, deadline: Deadline, kind: str) -> None:
    path = make(tmp_path / "disk", kind)
    source = inspect(path, deadline=deadline)
    assert (source.format, source.size) == (kind.partition("-")[0], 4 * MIB)
    told: list[tuple[int, int]] = []
    out = tmp_path / "out"
    convert(source, out, deadline=deadline, progress=lambda *progress: told.append(progress))
    assert out.read_bytes() == (tmp_path / "disk.raw").read_bytes()
    assert told[-1] == (4 * MIB, 4 * MIB)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("part", [0.97, 0.6, 0.1])
def test_refuses_what_is_cut_off(
    tmp_path: Path, deadline: Deadline, kind: str, part: float
) -> None:
    path = make(tmp_path / "disk", kind, 8 * MIB)  # vhdx has blocks of 8 MiB
    os.truncate(path, int(path.stat().st_size * part) | 1)
    with pytest.raises(ImageError, match=r"cut off|not a whole disk"):
        convert(inspect(path, deadline=deadline), tmp_path / "out", deadline=deadline,
                progress=silent)  # fmt: skip


@pytest.mark.parametrize("size", [4, 20, 80, 4096])
def test_refuses_the_mere_head_of_a_qcow2(tmp_path: Path, deadline: Deadline, size: int) -> None:
    path = make(tmp_path / "disk", "qcow2")
    os.truncate(path, size)
    with pytest.raises(ImageError, match="cut off"):
        inspect(path, deadline=deadline)


def test_refuses_damage(tmp_path: Path, deadline: Deadline) -> None:
    path = make(tmp_path / "disk", "qcow2")
    with path.open("r+b") as file:
        file.seek(3 * 65536)  # its table of clusters
        file.write(os.urandom(65536))
    with pytest.raises(ImageError, match="damaged or cut off"):
        inspect(path, deadline=deadline)


def test_refuses_an_unknown_version(tmp_path: Path, deadline: Deadline) -> None:
    path = tmp_path / "disk"
    path.write_bytes(struct.pack(">4sIQ", b"QFI\xfb", 1, 0) + bytes(512))
    with pytest.raises(ImageError, match="qcow of version 1"):
        inspect(path, deadline=deadline)


@pytest.mark.parametrize("name", ["no such file", "a directory", "a pipe", "an empty file"])
def test_refuses_what_is_no_disk_file(tmp_path: Path, deadline: Deadline, name: str) -> None:
    path = tmp_path / "disk"
    if name == "a directory":
        path.mkdir()
    elif name == "a pipe":
        os.mkfifo(path)
    elif name == "an empty file":
        path.touch()
    with pytest.raises(ImageError, match=str(path)):
        inspect(path, deadline=deadline)


def secret_file(tmp_path: Path) -> Path:
    secret = tmp_path / "secret"
    secret.write_bytes(b"root:x:secret".ljust(MIB, b"!"))
    return secret


@pytest.mark.parametrize("kind", ["qcow2", "vmdk"])
def test_refuses_a_backing_file(tmp_path: Path, deadline: Deadline, kind: str) -> None:
    base, path = make(tmp_path / "base", kind), tmp_path / "disk"
    qemu_img("create", "-f", kind, "-b", base, "-F", kind, path)
    with pytest.raises(ImageError, match="names other files") as caught:
        inspect(path, deadline=deadline)
    assert "qemu-img convert" in caught.value.fix


def test_refuses_a_raw_disk_that_pretends_to_be_qcow2(tmp_path: Path, deadline: Deadline) -> None:
    # What a guest can write to its raw disk, so that whoever guesses formats reads another file.
    path = tmp_path / "disk"
    qemu_img("create", "-f", "qcow2", "-u", "-b", secret_file(tmp_path), "-F", "raw", path, "1M")
    os.truncate(path, 4 * MIB)
    with pytest.raises(ImageError, match="names other files"):
        inspect(path, deadline=deadline)


def test_refuses_an_external_data_file(tmp_path: Path, deadline: Deadline) -> None:
    path = tmp_path / "disk"
    option = f"data_file={secret_file(tmp_path)},data_file_raw=on"
    qemu_img("create", "-f", "qcow2", "-o", option, path, "1M")
    with pytest.raises(ImageError, match="names other files"):
        inspect(path, deadline=deadline)


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentSparse"])
def test_refuses_a_vmdk_descriptor(tmp_path: Path, deadline: Deadline, subformat: str) -> None:
    raw, path = make_raw(tmp_path / "raw"), tmp_path / "disk.vmdk"
    qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={subformat}", raw, path)
    with pytest.raises(ImageError, match="names other files"):
        inspect(path, deadline=deadline)


def test_refuses_a_vmdk_that_hides_a_descriptor(tmp_path: Path, deadline: Deadline) -> None:
    path = make(tmp_path / "disk", "vmdk")
    with path.open("r+b") as file:
        file.seek(12)
        file.write(struct.pack("<Q", 0))
    with pytest.raises(ImageError, match="names other files"):
        inspect(path, deadline=deadline)


def test_a_name_like_a_protocol_is_a_name(
    tmp_path: Path, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_raw(Path("nbd:localhost"))
    assert inspect(Path("nbd:localhost"), deadline=deadline).format == "raw"


def test_no_space(tmp_path: Path, tiny: Path, deadline: Deadline) -> None:
    path = make(tmp_path / "disk", "qcow2-compressed", 12 * MIB)
    source = inspect(path, deadline=deadline)
    with pytest.raises(StoreFullError, match=f"no space left in {tiny}"):
        convert(source, tiny / "out", deadline=deadline, progress=silent)


def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Let qemu-img be a program that takes for ever."""
    program = tmp_path / "qemu-img"
    program.write_text("#!/bin/sh\necho '    (12.50/100%)'\nexec sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr(module, "QEMU_IMG", str(program))
    return Source(tmp_path / "disk", "raw", 800, 0)


def test_ends_with_its_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeadlineExceededError, match="qemu-img convert"):
        convert(slow(tmp_path, monkeypatch), tmp_path / "out", deadline=Deadline(0.3),
                progress=silent)  # fmt: skip


def test_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel, told = Cancel(), []

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        cancel.set("enough")

    source = slow(tmp_path, monkeypatch)
    with pytest.raises(CancelledError):
        convert(source, tmp_path / "out", deadline=Deadline(HANG, cancel), progress=progress)
    assert told == [(100, 800)]


def test_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QEMU_IMG", str(tmp_path / "missing"))
    with pytest.raises(ImageError, match="qemu-img is not installed") as caught:
        inspect(make_raw(tmp_path / "disk"), deadline=Deadline(HANG))
    assert "qemu-utils" in caught.value.fix


def test_says_so_when_qemu_img_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QEMU_IMG", "/bin/false")
    with pytest.raises(ImageError, match="no reason given"):
        inspect(make_raw(tmp_path / "disk"), deadline=Deadline(HANG))
