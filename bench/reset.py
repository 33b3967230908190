"""How long a reset takes with the file store and tgt, whatever the guest wrote before.

    .venv/bin/python -m bench.reset [--rounds 5] [--data 384] [--dirty 0 64 512] [--json]

Each round: a guest with a live iSCSI session has just written so many MiB (not synced). Then the
critical path: fence, swap to the spare, prove, arm. Behind it, in the background: the next spare
and the removal of the dirty disk. Twice: on btrfs (a loop file of our own), where clones are
references, and on the file system of the temporary directory, where they are copies. Needs root,
btrfs-progs, tgt, qemu-utils, libiscsi7.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.reset import arm, reset
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.disk.target import Export
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget
from cuckoo_zfsiscsi.progress import silent
from tests.iscsi import Initiator, free_port

MIB = 1 << 20
STEPS = ("fence", "swap", "prove", "arm")
COLUMNS = (*STEPS, "reset", "spare", "discard")


@dataclass
class Row:
    """What came out of all rounds with one kind of clone and one amount of dirty data."""

    clone: str
    dirty_mib: int
    median_s: dict[str, float]
    max_s: dict[str, float]


@dataclass
class Bench:
    """One store, one host."""

    store: FileStore
    target: TgtTarget

    def round(self, dirty: int) -> dict[str, float]:
        """Dirty the disk, reset it; return seconds per step."""
        self._spare()
        done = reset(self.store, self.target, "pc1", "golden", deadline=Deadline(600))
        export = arm(self.store, self.target, done.disk, deadline=Deadline(60))
        self._spare()
        self.store.discard_retired("pc1", deadline=Deadline(60))
        with Initiator(export) as guest:
            for block in range(dirty):
                guest.write(block * MIB // 512, os.urandom(MIB))
            return self._measure()

    def _measure(self) -> dict[str, float]:
        begin = time.monotonic()
        done = reset(self.store, self.target, "pc1", "golden", deadline=Deadline(60))
        proven = time.monotonic()
        self._armed(arm(self.store, self.target, done.disk, deadline=Deadline(60)))
        end = time.monotonic()
        seconds = {**done.seconds, "arm": end - proven, "reset": end - begin}
        begin = time.monotonic()
        self._spare()
        seconds["spare"] = time.monotonic() - begin
        begin = time.monotonic()
        self.store.discard_retired("pc1", deadline=Deadline(60))
        seconds["discard"] = time.monotonic() - begin
        return seconds

    def _spare(self) -> None:
        self.store.make_spare("pc1", "golden", deadline=Deadline(600), progress=silent)

    @staticmethod
    def _armed(export: Export) -> None:
        with Initiator(export):  # the new credentials work: it is a reset, not only fast
            pass


@contextlib.contextmanager
def bench(place: Path, source: Path) -> Iterator[Bench]:
    """Make a store in a directory, and a target for it."""
    store = FileStore(place / "store", immutable=False)
    target = TgtTarget(
        portal=IPv4Address("127.0.0.1"),
        port=free_port(),
        iqn="iqn.2026-01.org.example",
        run_dir=place / "run",
    )
    store.open()
    target.open(deadline=Deadline(20))
    try:
        store.import_image("golden", source, deadline=Deadline(600), progress=silent)
        store.seal("golden", deadline=Deadline(600), progress=silent)
        yield Bench(store, target)
    finally:
        target.close()
        store.close()


@contextlib.contextmanager
def btrfs(base: Path, size: int) -> Iterator[Path]:
    """Mount a btrfs of our own."""
    device, place = base / "btrfs.img", base / "btrfs"
    place.mkdir()
    device.touch()
    os.truncate(device, size)
    subprocess.run(["mkfs.btrfs", "-q", device], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", device, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def run(base: Path, data: int, dirty: list[int], rounds: int) -> list[Row]:
    """Return one row per store and amount of dirty data: medians and maxima in seconds."""
    source, plain = base / "golden.raw", base / "plain"
    plain.mkdir()
    with source.open("wb") as file:
        for _ in range(data):
            file.write(os.urandom(MIB))
        file.truncate(max(data, *dirty) * 2 * MIB)
    rows = []
    with btrfs(base, 8 << 30) as references:
        for kind, place in (("reference", references), ("copy", plain)):
            with bench(place, source) as one:
                for amount in dirty:
                    found = [one.round(amount) for _ in range(rounds)]
                    rows.append(_row(kind, amount, found))
    return rows


def _row(kind: str, dirty: int, rounds: list[dict[str, float]]) -> Row:
    median = {name: statistics.median(r[name] for r in rounds) for name in COLUMNS}
    most = {name: max(r[name] for r in rounds) for name in COLUMNS}
    return Row(kind, dirty, median, most)


def main() -> int:
    """Run it and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=int, default=384, help="MiB of data in the image")
    parser.add_argument("--dirty", type=int, nargs="+", default=[0, 64, 512], help="MiB")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zb") as name:
        rows = run(Path(name), options.data, options.dirty, options.rounds)
    if options.json:
        print(
            json.dumps(
                {
                    "rounds": options.rounds,
                    "data_mib": options.data,
                    "rows": [asdict(r) for r in rows],
                }
            )
        )
        return 0
    title = (
        f"median (maximum) of {options.rounds} rounds, ms; image with {options.data} MiB of data"
    )
    table = Table("clones by", "MiB dirty", *COLUMNS, title=title)
    for row in rows:
        median, most = row.median_s, row.max_s
        cells = [f"{median[c] * 1000:.1f} ({most[c] * 1000:.0f})" for c in COLUMNS]
        table.add_row(row.clone, str(row.dirty_mib), *cells)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
