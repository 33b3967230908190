"""What was done so far, so that it can be gone on with: one JSON line per step, synced to disk."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.errors import CompareError

Json = dict[str, Any]


class Journal:
    """The journal of one comparison. One program at a time; safe against kill -9 at any moment.

    Args:
        folder: made if need be, for its owner alone: reports say what was analyzed.
        fingerprint: of the plan.

    Raises:
        CompareError: it is another plan's, it is in use, or it can't be read or written.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._path = folder / "journal"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CompareError(
                f"{self._path} can't be opened: {error.strerror}", fix=f"ls -ld {folder}"
            ) from None
        try:
            self._lock()
            self.steps = self._read()
            self._claim(fingerprint)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another program have it."""
        with contextlib.suppress(OSError):
            os.close(self._file)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, step: str, **what: Any) -> None:  # noqa: ANN401 - whatever json.dumps takes
        """Add a step; it is on disk when this returns.

        Raises:
            CompareError: the disk is full or broken.
        """
        entry = {"step": step, **what}
        line = json.dumps(entry).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError as error:
            raise CompareError(
                f"{self._path} can't be written: {error.strerror}", fix=f"df {self._path.parent}"
            ) from None
        self.steps.append(entry)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CompareError(
                f"{self._path} is in use by another zfsiscsi compare",
                fix="wait for it, or end it",
            ) from None

    def _read(self) -> list[Json]:
        text = self._path.read_bytes()
        whole = text.rfind(b"\n") + 1
        # What a killed one did not finish was not done
        os.ftruncate(self._file, whole)
        os.lseek(self._file, 0, os.SEEK_END)
        steps: list[Json] = []
        for number, line in enumerate(text[:whole].splitlines(), 1):
            try:
                step = json.loads(line)
            except ValueError:
                step = None
            if not isinstance(step, dict) or "step" not in step:
                raise CompareError(
                    f"{self._path}, line {number} is damaged",
                    fix=f"begin anew: mv {self._path.parent} {self._path.parent}.bad",
                )
            steps.append(step)
        return steps

    def _claim(self, fingerprint: str) -> None:
        if not self.steps:
            self.write("plan", fingerprint=fingerprint)
        elif self.steps[0].get("fingerprint") != fingerprint:
            raise CompareError(
                f"{self._path.parent} was begun with another plan: samples, options or "
                "environments differ",
                fix="take the old plan, or --into another folder",
            )
