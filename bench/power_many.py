"""A hundred hosts behind ten slow BMCs: how long until all are proved off, and what that weighs.

    .venv/bin/python -m bench.power_many [--hosts 100] [--bmcs 10] [--answer 5] [--json]

The BMCs are sushy-tools' emulator over TLS in a process of their own, each with its share of the
systems, and each takes so many seconds for every answer. An off needs two answers, the request's
and its proof's; one BMC answers one at a time: that is the ideal. The hosts are switched on first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from cuckoo_zfsiscsi.config import PowerUrl
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.power.limit import limiter_for
from cuckoo_zfsiscsi.power.proved import ProvedPower
from cuckoo_zfsiscsi.power.redfish import connect

PASSWORD = "bench-password"  # noqa: S105 - of emulators that live for minutes
INTERVAL = 0.2
"""Seconds between two commands to one BMC."""
ANSWERS = 2
"""That an off needs."""

Bmc = tuple[int, str]
"""Port and fingerprint."""


def serve(folder: Path, bmcs: int, systems: int) -> None:
    """Be the BMCs: print port and fingerprint of each; a line on stdin is the seconds it takes."""
    from tests.power.redfish import FakeRedfish

    with contextlib.ExitStack() as stack:
        made = [FakeRedfish(folder / str(n), systems=systems) for n in range(bmcs)]
        for bmc in made:
            bmc.password = PASSWORD
            bmc.allow("admin", PASSWORD)
            for system in bmc.systems.power:
                bmc.systems.power[system] = True
            stack.enter_context(bmc.serving())
        print(json.dumps([(bmc.port, bmc.fingerprint) for bmc in made]), flush=True)
        for line in sys.stdin:
            for bmc in made:
                bmc.delay = float(line)
            print(json.dumps([sum(bmc.systems.power.values()) for bmc in made]), flush=True)


@contextlib.contextmanager
def peers(
    folder: Path, bmcs: int, systems: int
) -> Iterator[tuple[subprocess.Popen[str], list[Bmc]]]:
    """Run the BMCs; give their process and what it printed."""
    argv = [sys.executable, "-m", "bench.power_many", "--serve", str(folder)]
    argv += ["--bmcs", str(bmcs), "--hosts", str(bmcs * systems)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout  # noqa: S101
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def tell(process: subprocess.Popen[str], answer: float) -> int:
    """Set the seconds that an answer takes from now on; return how many hosts are on."""
    assert process.stdin  # noqa: S101
    assert process.stdout  # noqa: S101
    process.stdin.write(f"{answer}\n")
    process.stdin.flush()
    return sum(json.loads(process.stdout.readline()))


def make_hosts(bmcs: list[Bmc], systems: int) -> list[ProvedPower]:
    """Return the power of every host."""
    hosts = []
    for number in range(1, systems + 1):
        for port, fingerprint in bmcs:
            options = {"system": str(number), "fingerprint": fingerprint}
            url = PowerUrl("redfish", "127.0.0.1", "admin", port, options)
            driver = connect(url, SecretStr(PASSWORD))
            hosts.append(ProvedPower(driver, limiter_for(driver.peer), interval=INTERVAL))
    return hosts


def together(hosts: list[ProvedPower], off: bool) -> tuple[float, float]:
    """Switch all off, or ask all; return the seconds until the last, and the peak of memory."""
    states: list[PowerState] = []

    def work(host: ProvedPower) -> None:
        deadline = Deadline(600)
        states.append(host.off(deadline=deadline).state if off else host.status(deadline=deadline))

    begin, peak = time.monotonic(), 0.0
    threads = [threading.Thread(target=work, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, memory())
        time.sleep(0.1)
    seconds = time.monotonic() - begin
    if states != [PowerState.OFF if off else PowerState.ON] * len(hosts):
        raise RuntimeError("not every host was proved")
    return seconds, peak


def memory() -> float:
    """Resident memory of this process, MB (10^6 bytes)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


def measure(count: int, bmcs: int, answer: float, at: Path) -> dict[str, float]:
    """Return seconds and MB."""
    systems = count // bmcs
    with peers(at, bmcs, systems) as (process, addresses):
        hosts = make_hosts(addresses, systems)
        together(hosts, off=False)  # as the service has asked each host before
        tell(process, answer)
        seconds, peak = together(hosts, off=True)
        on = tell(process, 0.0)
    ideal = systems * ANSWERS * (answer + INTERVAL)
    return {
        "hosts": len(hosts),
        "really_on": on,
        "ideal_s": ideal,
        "all_off_s": seconds,
        "ratio": seconds / ideal,
        "resident_mb": peak,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--bmcs", type=int, default=10)
    parser.add_argument("--answer", type=float, default=5.0, help="seconds")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.bmcs, options.hosts // options.bmcs)
        return
    with tempfile.TemporaryDirectory() as at:
        result = measure(options.hosts, options.bmcs, options.answer, Path(at))
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name:14} {value:8.2f}")


if __name__ == "__main__":
    main()
