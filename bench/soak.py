"""Whether resets leak: many in a row over some hosts, and what there is before and after.

    python -m cuckoo_zfsiscsi.lab.appliance -- python3 -m bench.soak [--resets 1000] [--hosts 4]

Runs on a storage server with an empty /dev/vdb: the appliance.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.zfs import POOL, resident_mib, rig
from tests.iscsi import Initiator
from tests.zfs.rig import Rig

CONFIGFS = Path("/sys/kernel/config/target")
EVERY = 25
WARM = 50
"""Resets of each host before it begins: by then the interpreter has most of its memory."""
CALLS = "threads for calls"
"""Of disk.bounded: as many as ever were needed at once; each call that never ends has one more."""
AT_ONCE = 3
"""Calls of one host at a time: its fence, a look at the pool, and one in the background."""
GROWTH = 16.0
"""MiB by which memory may grow: caches of the interpreter."""


def counts(hosts: list[str], one: Rig) -> dict[str, float]:
    """Return how much there is of everything that could leak."""
    listed = subprocess.run(
        ["zfs", "list", "-H", "-o", "name", "-t", "volume,snapshot", "-r", POOL],
        capture_output=True,
        text=True,
        check=True,
    )
    threads = [thread.name for thread in threading.enumerate()]
    return {
        "sessions": sum(len(one.target.sessions(host)) for host in hosts),
        "backstores": len(list(CONFIGFS.glob("core/iblock_*/*/udev_path"))),
        "targets": len(list(CONFIGFS.glob("iscsi/iqn.*"))),
        "LUNs": len(list(CONFIGFS.glob("iscsi/iqn.*/tpgt_*/lun/lun_*"))),
        "ACLs": len(list(CONFIGFS.glob("iscsi/iqn.*/tpgt_*/acls/iqn.*"))),
        "zvols and snapshots": len(listed.stdout.split()),
        "file descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": len(threads) - threads.count("bounded"),
        CALLS: threads.count("bounded"),
        "resident MiB": resident_mib(),
    }


def life(one: Rig, host: str, resets: int) -> None:
    """Reset a host so often; each time its guest logs in and writes."""
    for number in range(resets):
        if number and number % EVERY == 0:
            print(f"{host}: {number} of {resets} resets", file=sys.stderr, flush=True)
        with Initiator(one.boot(host)) as guest:
            guest.write(0, b"infected" * 64)
        one.tidy(host)


def main() -> int:
    """Run it and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--resets", type=int, default=1000)
    parser.add_argument("--hosts", type=int, default=4)
    options = parser.parse_args()
    hosts = [f"pc{number}" for number in range(1, options.hosts + 1)]
    with rig(hosts, "swap", size=64, data=16) as one:
        each = options.resets // len(hosts)
        with ThreadPoolExecutor(len(hosts)) as pool:
            # As many at once as later: what each thread keeps for itself is there then
            list(pool.map(lambda host: life(one, host, WARM), hosts))
            before = counts(hosts, one)
            begin = time.monotonic()
            list(pool.map(lambda host: life(one, host, each), hosts))
            seconds = time.monotonic() - begin
            after = counts(hosts, one)
    print(f"{each * len(hosts)} resets of {len(hosts)} hosts in {seconds:.0f} s")
    print(f"{'':20} {'before':>8} {'after':>8}")
    leaks = []
    for name, was in before.items():
        print(f"{name:20} {was:8.0f} {after[name]:8.0f}")
        most = {"resident MiB": was + GROWTH, CALLS: AT_ONCE * len(hosts)}.get(name, was)
        if after[name] > most:
            leaks.append(name)
    print(f"LEAK: {', '.join(leaks)}" if leaks else "no leak")
    return 1 if leaks else 0


if __name__ == "__main__":
    raise SystemExit(main())
