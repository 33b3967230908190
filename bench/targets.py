"""What many hosts cost with ZFS and LIO: targets made, a reset among many, all resets at once.

    python -m cuckoo_zfsiscsi.lab.appliance -- python3 -m bench.targets [--hosts 64]

Runs on a storage server with an empty /dev/vdb: the appliance.
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from bench.zfs import resident_mib, rig, round_trip

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
    print(f"{len(hosts)} targets: first reset of each, spare included {made * 1000:.0f} ms")
    print(
        f"reset: with 1 target {statistics.median(alone) * 1000:.0f} ms, among {len(hosts)} "
        f"{statistics.median(among) * 1000:.0f} ms: {ratio:.2f} (must be at most {AMONG:g})"
    )
    print(f"all {len(hosts)} reset at once: {parallel:.1f} s, {memory:.0f} MiB resident")
    return 0 if ratio <= AMONG and memory <= MEMORY else 1


if __name__ == "__main__":
    raise SystemExit(main())
