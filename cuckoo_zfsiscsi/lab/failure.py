"""What stays of a lab that failed: consoles, logs, packets, in one folder that only root reads."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cuckoo_zfsiscsi.lab import guest_image

KEEP = 5
"""Folders of failures that stay, the newest ones."""
MOST = 8 << 20
"""Bytes of each file that are kept, its end; more than lab.wire writes into one."""
FILES = ("zfsiscsi.conf", "*.log", "*/*.log", "*/*/*.log", "*/*/log", "*.pcap*")
"""What is kept of a lab's directory: hosts' and server's consoles and logs, and the packets."""


def default_folder() -> Path:
    """Return where the folders of failures lie."""
    return guest_image.default_cache() / "failures"


def keep(at: Path, why: str) -> str:
    """Copy what a failure can be understood from; return one sentence that says where it is.

    Called while all of it is still up. What can't be kept is said in that sentence: whoever takes
    the lab down then must not be held up.

    Args:
        at: directory of the lab.
        why: what failed.
    """
    folder = default_folder()
    try:
        kept = write(at, why, folder)
    except OSError as error:
        return f"the failure's consoles, logs and packets could not be kept in {folder}: {error}"
    return f"the failure's consoles, logs and packets: {kept}"


def note(error: BaseException, kept: str) -> None:
    """Have an error's traceback say where its evidence is."""
    if sys.version_info >= (3, 11):
        error.add_note(kept)
    else:  # no notes there: what is printed stands beside the traceback
        sys.stderr.write(f"{kept}\n")


def write(at: Path, why: str, folder: Path) -> Path:
    """Copy what a failure can be understood from into a new folder below this one; return it.

    Older ones go first. They hold secrets: a boot script that went over the wire has one.

    Raises:
        OSError: there is no room, for instance. Nothing is left of the attempt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for old in sorted(folder.iterdir())[: 1 - KEEP]:  # their names begin with the time
        shutil.rmtree(old, ignore_errors=True)
    kept = Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=folder))
    try:
        (kept / "why.txt").write_text(f"{why}\n")
        for path in _found(at):
            _copy_end(path, kept / str(path.relative_to(at)).replace("/", "-"))
    except BaseException:
        shutil.rmtree(kept, ignore_errors=True)
        raise
    return kept


def _found(at: Path) -> Iterator[Path]:
    for pattern in FILES:
        for path in sorted(at.glob(pattern)):
            if path.is_file() and not path.is_symlink():
                yield path


def _copy_end(source: Path, target: Path) -> None:
    """Copy the end of a file. One that has just gone is left out."""
    try:
        file = source.open("rb")
    except FileNotFoundError:
        return
    target.touch(0o600)
    with file, target.open("wb") as copy:
        if (left_out := os.fstat(file.fileno()).st_size - MOST) > 0:
            copy.write(b"[%d bytes before this are left out]\n" % left_out)
            file.seek(left_out)
        copy.write(file.read(MOST))
