"""Disk files of other programs -> raw, through qemu-img. The file's content is not trusted.

Some formats can name other files, whose content would end up in the image: a backing file, an
external data file, the extents of a VMDK descriptor. We look at the header ourselves and refuse
those before qemu-img opens the file, and tell it the format, so that it guesses nothing.
"""

from __future__ import annotations

import json
import re
import selectors
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.clone import Meter
from cuckoo_zfsiscsi.disk.store.guard import full
from cuckoo_zfsiscsi.environment import for_child
from cuckoo_zfsiscsi.errors import DiskError, ImageError
from cuckoo_zfsiscsi.progress import Progress, silent

QEMU_IMG = "qemu-img"
SECTOR = 512
_EXTERNAL_DATA = 1 << 2  # qcow2's incompatible feature bits, docs/interop/qcow2.txt of QEMU
_PERCENT = re.compile(rb"\((\d+\.\d+)/100%\)")
_POLL = 0.2
_MISSING = "apt install qemu-utils"


@dataclass(frozen=True, slots=True)
class Source:
    """A disk file that can be imported."""

    path: Path
    format: str
    size: int
    """Bytes that a guest sees."""
    allocated: int
    """Bytes that it takes now: the image can't be much smaller, but for compressed ones."""


def inspect(path: Path, *, deadline: Deadline) -> Source:
    """Find out what a disk file is.

    Raises:
        ImageError: it is missing, damaged, cut off, of an unknown format, or names other files.
        DeadlineExceededError, CancelledError: not done.
    """
    path = path.absolute()  # a relative name could look like one of qemu's protocols
    try:
        if not (path.is_file() or path.is_block_device()):
            path.stat()  # says so when it is not there
            raise ImageError(f"{path} is not a disk file", fix="name a file or a block device")
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise ImageError(
            f"can't read {path}: {error.strerror}", fix="name a raw, qcow2, vhdx or vmdk file"
        ) from None
    kind = _detect(path, head)
    info = json.loads(_run(path, ["info", "--output=json", "-f", kind, str(path)], deadline))
    if "backing-filename" in info:
        raise _names_others(path, kind)
    if kind != "raw":
        _run(path, ["check", "-q", "-f", kind, str(path)], deadline)
    size = int(info["virtual-size"])
    if size == 0 or (kind == "raw" and path.is_file() and path.stat().st_size % SECTOR):
        raise ImageError(
            f"{path} is not a whole disk: {path.stat().st_size} bytes, not a multiple of {SECTOR}",
            fix="copy it again: it was cut off",
        )
    return Source(path, kind, size, int(info.get("actual-size", 0)))


def _detect(path: Path, head: bytes) -> str:
    """Return qemu's name of the format, by magic number."""
    if head.startswith(b"QFI\xfb"):
        return _check_qcow2(path, head)
    if head.startswith(b"vhdxfile"):
        return "vhdx"  # a differencing one is refused by qemu
    if head.startswith(b"KDMV"):
        (capacity,) = struct.unpack_from("<Q", head, 12)
        if capacity == 0:  # qemu would take the extents' names from the descriptor inside
            raise _names_others(path, "vmdk")
        return "vmdk"
    if b"# Disk DescriptorFile" in head:
        raise _names_others(path, "vmdk descriptor")
    return "raw"


def _check_qcow2(path: Path, head: bytes) -> str:
    try:
        version, backing = struct.unpack_from(">IQ", head, 4)
        (features,) = struct.unpack_from(">Q", head, 72) if version >= 3 else (0,)
    except struct.error:
        raise ImageError(f"{path} is cut off", fix="copy it again") from None
    if version not in (2, 3):
        raise ImageError(f"{path} is qcow of version {version}", fix="convert it with qemu-img")
    if backing or features & _EXTERNAL_DATA:
        raise _names_others(path, "qcow2")
    return "qcow2"


def _names_others(path: Path, kind: str) -> ImageError:
    return ImageError(
        f"{path} ({kind}) is only a part: it names other files that it needs",
        fix=f"make one file of it, where you trust it: qemu-img convert -O qcow2 {path.name} "
        "whole.qcow2",
    )


def convert(
    source: Source,
    raw: Path,
    *,
    into_device: bool = False,
    deadline: Deadline,
    progress: Progress,
) -> None:
    """Write the content of a disk file to a raw, sparse file.

    Args:
        source: what inspect() found.
        raw: made, or written anew.
        into_device: it is a block device that reads as zeros, at least as large: what is zero is
            left out, and nothing goes through the page cache.
        deadline: for all of it.
        progress: told of the bytes converted.

    Raises:
        ImageError: the source is damaged.
        StoreFullError: no space.
        DeadlineExceededError, CancelledError: not done.
    """
    device = ["-n", "--target-is-zero", "-t", "none", "-S", "16k"] if into_device else []
    argv = ["convert", "-p", *device, "-f", source.format, "-O", "raw", str(source.path), str(raw)]
    _run(source.path, argv, deadline, progress=progress, size=source.size)


def _run(
    path: Path,
    arguments: Sequence[str],
    deadline: Deadline,
    *,
    progress: Progress = silent,
    size: int = 0,
) -> bytes:
    """Run qemu-img to its end, or kill it; return what it printed."""
    try:
        process = subprocess.Popen(
            [QEMU_IMG, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=for_child(),
        )
    except FileNotFoundError:
        raise ImageError("qemu-img is not installed", fix=_MISSING) from None
    printed, meter = b"", Meter(progress, size)
    try:
        for piece in _output(process, deadline, f"qemu-img {arguments[0]} of {path}"):
            printed = (printed + piece)[-65536:]
            if percents := _PERCENT.findall(piece):
                meter(min(size, int(float(percents[-1]) * size / 100)))
        process.wait()
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
    if process.returncode:
        raise _failure(path, arguments, printed)
    return printed


def _output(process: subprocess.Popen[bytes], deadline: Deadline, what: str) -> Iterator[bytes]:
    assert process.stdout is not None  # noqa: S101 - for the type checker
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            deadline.check(what)
            if selector.select(min(_POLL, deadline.remaining)):
                if not (piece := process.stdout.read1(65536)):  # type: ignore[attr-defined]
                    return
                yield piece


def _failure(path: Path, arguments: Sequence[str], printed: bytes) -> DiskError:
    lines = re.split(rb"[\r\n]+", printed.strip())
    words = [
        line.decode("utf-8", "replace") for line in lines if line and not _PERCENT.search(line)
    ]
    last = words[-1].removeprefix("qemu-img: ") if words else "no reason given"
    if "No space left on device" in last or "Disk quota exceeded" in last:
        return full(Path(arguments[-1]).parent)
    return ImageError(
        f"{path} is damaged or cut off: {last}",
        fix=f"copy it again, or look at: qemu-img check {path}",
    )
