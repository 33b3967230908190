"""What many hosts cost with ZFS and LIO: targets made, a reset among many, all resets at once.

    python -m cuckoo_zfsiscsi.lab.appliance -- python3 -m bench.targets [--hosts 64]

Runs on a storage server with an empty /dev/vdb: the appliance.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.zfs import available_mib, resident_mib, rig, round_trip
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.target import Target
from tests.waiting import HANG

AMONG = 1.5
"""A reset among many targets may take so many times one with its target alone."""
MEMORY = 200.0
"""MiB that the process may have."""


def main() -> int:
    """Run it and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    hosts = [f"pc{number}" for number in range(1, options.hosts + 1)]
    with rig(hosts, "swap", size=64, data=16) as one:
        seconds, taken = make_all(one.target)
        threads = login_threads()
        round_trip(one, "pc1", 0, synced=True)
        alone = [round_trip(one, "pc1", 0, synced=True)["critical"] for _ in range(options.rounds)]
        begin = time.monotonic()
        for host in hosts[1:]:
            one.boot(host)
        made = (time.monotonic() - begin) / max(1, len(hosts) - 1)
        for host in hosts:
            one.tidy(host)
        among = [round_trip(one, "pc1", 0, synced=True)["critical"] for _ in range(options.rounds)]
        one.tidy("pc1")
        begin = time.monotonic()
        with ThreadPoolExecutor(len(hosts)) as pool:
            list(pool.map(one.boot, hosts))
        parallel = time.monotonic() - begin
        memory = resident_mib()
    ratio = statistics.median(among) / statistics.median(alone)
    print(
        f"{len(hosts)} targets with a portal each, made in {seconds:.1f} s: {threads} login "
        f"threads, {taken:.1f} MiB of the kernel's memory"
    )
    print(f"{len(hosts)} targets: first reset of each, spare included {made * 1000:.0f} ms")
    print(
        f"reset: with 1 target {statistics.median(alone) * 1000:.0f} ms, among {len(hosts)} "
        f"{statistics.median(among) * 1000:.0f} ms: {ratio:.2f} (must be at most {AMONG:g})"
    )
    print(f"all {len(hosts)} reset at once: {parallel:.1f} s, {memory:.0f} MiB resident")
    return 0 if ratio <= AMONG and memory <= MEMORY else 1


def make_all(target: Target) -> tuple[float, float]:
    """Make all targets anew; return seconds and MiB."""
    target.close()
    before, begin = available_mib(), time.monotonic()
    target.open(deadline=Deadline(HANG))
    return time.monotonic() - begin, before - available_mib()


def login_threads() -> int:
    """Return how many threads of the kernel wait for logins (iscsi_target_login_thread)."""
    found = 0
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # ended meanwhile
            found += comm.read_text() == "iscsi_np\n"
    return found


if __name__ == "__main__":
    raise SystemExit(main())
