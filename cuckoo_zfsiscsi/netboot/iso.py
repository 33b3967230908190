"""Reads an installation medium's image by 7-Zip: Windows' are UDF, with files over 4 GB."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.environment import for_child
from cuckoo_zfsiscsi.errors import ImageError, NetbootError
from cuckoo_zfsiscsi.progress import Progress

PROGRAM = "7z"
LIST_TIMEOUT = 60.0
"""Seconds; a list is read in less than one, from a slow share too."""
POLL = 0.1
WARNING = 1
"""7-Zip's exit code for a medium with more behind its end, as many have."""


def sizes(iso: Path, deadline: Deadline) -> dict[str, int]:
    """Return every file on the medium: path, in small letters and without a leading /, and bytes.

    Raises:
        ImageError: it is no such image, or can't be read.
        NetbootError: 7-Zip is not installed, or does not end.
        DeadlineExceededError, CancelledError: as it says.
    """
    try:
        with iso.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ImageError(
            f"can't read {iso}: {error.strerror}", fix="name the medium's image: --iso WINDOWS.iso"
        ) from None
    argv = [PROGRAM, "l", "-slt", "-ba", "-sccUTF-8", "-bd", "-p", "--", str(iso.absolute())]
    timeout = deadline.within(LIST_TIMEOUT).remaining
    try:
        done = subprocess.run(
            argv,
            env=for_child(),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except FileNotFoundError:
        raise _missing() from None
    except subprocess.TimeoutExpired:
        deadline.check(f"reading {iso}")
        raise NetbootError(f"{PROGRAM} can't list {iso} in {timeout:.0f} s") from None
    if done.returncode > WARNING:
        raise ImageError(
            f"{iso} is no image of an installation medium, or not a whole one",
            fix=f"{PROGRAM} l {iso} says more",
        )
    return dict(filter(None, map(_read, done.stdout.split("\n\n"))))


def _read(block: str) -> tuple[str, int] | None:
    """Return path and bytes of one file of the list; None for a folder."""
    facts = dict(line.partition(" = ")[::2] for line in block.splitlines())
    size = facts.get("Size", "")
    if facts.get("Folder") == "+" or not size.isdigit():
        return None
    return facts["Path"].replace("\\", "/").lower(), int(size)


def extract(iso: Path, name: str, to: Path, deadline: Deadline, progress: Progress) -> None:
    """Write one file of the medium to a file of ours.

    Args:
        iso: of the medium.
        name: path on it; capital and small letters are the same.
        to: written anew.
        deadline: for it.
        progress: told of the bytes; their sum is not known here, and told as 0.

    Raises:
        ImageError: the medium is damaged, or there is no space.
        NetbootError: 7-Zip is not installed.
        DeadlineExceededError, CancelledError: as it says; it is ended.
    """
    argv = [PROGRAM, "x", "-so", "-ssc-", "-bd", "-p", "--", str(iso.absolute()), name]
    with to.open("wb") as file:
        try:
            process = subprocess.Popen(
                argv,
                env=for_child(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.PIPE,
            )
        except FileNotFoundError:
            raise _missing() from None
        with process:
            try:
                while process.poll() is None:
                    deadline.sleep(POLL, f"reading {name} of {iso}")
                    progress(to.stat().st_size, 0)
            finally:
                process.kill()
            said = process.stderr.read().decode(errors="replace") if process.stderr else ""
    if process.returncode > WARNING:
        last = ([line.strip() for line in said.splitlines() if line.strip()] or ["?"])[-1]
        raise ImageError(
            f"{name} can't be read from {iso}: {last}",
            fix=f"is the image whole, and is there space? {PROGRAM} t {iso}; df -h {to.parent}",
        )


def _missing() -> NetbootError:
    return NetbootError(f"{PROGRAM} is not installed", fix="apt install p7zip-full")
