"""Ways to a clean host, side by side: the same guest image, the same emulated machine.

    .venv/bin/python -m bench.recovery [--rounds 3] [--json]

a local     a disk in the machine: revert to its snapshot (a new overlay), then a cold boot
b loadvm    what a VM machinery does: QEMU with memory and disk of a snapshot
c redeploy  what FOG does: netboot a small Linux, write the whole image to the disk in the machine
            (gzip over HTTP), reboot, boot from that disk
d rollback  ours: stop(), which rolls the disk back in place as the paper does, then start()
e swap      ours: stop(), which resets to the spare, then start()
f prewarmed ours: start() of a host that the service has reset and booted ahead
e' files    as e, without ZFS: the storage server is this machine, with files and tgt

Seconds from the request for a clean host until RPC answers, probed every 0.1 s. At the request the
host is off and its disk infected (f: the service has cleaned it already, which is the point);
after it the guest is looked at, and a round that is not clean fails. All in turns: one host is
on at a time. The storage server of d, e and f is an emulated machine too, as ZFS needs one here: it
has a part of the same processors, so e' is what compares with a, b and c.

The table is as docs/measure.rst has it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from bench.local import BOOT, DeployServer, LocalHost
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import conf, guest_image, malware
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.bring_up import Lab
from cuckoo_zfsiscsi.lab.watch import Watch

WAYS = {
    "local": "a  local disk: revert, cold boot",
    "loadvm": "b  VM: loadvm",
    "redeploy": "c  image redeployed, as FOG does",
    "rollback": "d  netboot, in-place rollback",
    "swap": "e  netboot, spare swap",
    "prewarmed": "f  netboot, prewarmed",
    "files": "e' netboot, spare swap, no ZFS",
}

Restore = Callable[[], object]


def once(network: net.Network, image: Path, restore: Restore, *, number: int = 1) -> float:
    """Return seconds from the request to RPC; the guest is found clean, and then infected.

    Args:
        network: of the host.
        image: what the guest is compared with.
        restore: brings the clean host.
        number: of the host.

    Raises:
        LabError: it is not clean.
        DeadlineExceededError: RPC does not come.
    """
    address = str(net.host_address(number))
    with Watch(network, address) as watch:
        watch.down(Deadline(10))
        began = time.monotonic()
        restore()
        took = watch.up(Deadline(BOOT), after=began) - began
    deadline = Deadline(BOOT)
    while True:
        try:
            found = malware.look(network, address, image)
        except LabError:  # noqa: PERF203 - the agent comes after RPC
            deadline.sleep(0.5, "the agent")
        else:
            break
    if not found.clean:
        raise LabError(f"not clean: {found.detail}")
    malware.infect(network, address)
    return took


class Ours:
    """One host of a lab; it is off but for its turns.

    Args:
        lab: that is up.
        number: of the host.
    """

    def __init__(self, lab: Lab, number: int = 1) -> None:
        self._lab = lab
        self._number = number
        self._label = conf.label(number)
        self._address = str(net.host_address(number))
        self._machine = lab.machines[number - 1]

    def rest(self) -> None:
        """Switch it off until its next turn."""
        self._lab.client.maintenance(self._label, True)
        self._await("maintenance")

    def begin_run(self) -> None:
        """Leave it in a run, off and infected."""
        self._lab.plugin.start(self._label)
        malware.infect(self._lab.network, self._address)
        self._machine.off()

    def reset(self) -> float:
        """One round of a host in a run, off and infected; it is so again after it."""

        def restore() -> None:
            self._lab.plugin.stop(self._label)
            self._lab.plugin.start(self._label)

        took = once(self._lab.network, self._lab.image, restore, number=self._number)
        self._machine.off()
        return took

    def prewarmed(self) -> float:
        """One round of a host that stands by."""
        self._lab.client.maintenance(self._label, False)
        self._await("ready")
        began = time.monotonic()
        self._lab.plugin.start(self._label)
        took = time.monotonic() - began
        if not self._lab.client.host(self._label)["last_boot"]["prewarmed"]:
            raise LabError("the host was not prewarmed")
        found = malware.look(self._lab.network, self._address, self._lab.image)
        if not found.clean:
            raise LabError(f"not clean: {found.detail}")
        malware.infect(self._lab.network, self._address)
        self._lab.plugin.stop(self._label)
        self.rest()
        return took

    def _await(self, state: str) -> None:
        deadline = Deadline(BOOT)
        while self._lab.client.host(self._label)["state"] != state:
            deadline.sleep(0.1, f"{self._label} {state}")


def labs(image: Path, stack: ExitStack) -> dict[str, Callable[[], float]]:
    """Bring up two labs; return what measures one round of each of our ways."""

    def say(_what: str) -> None:
        """Say nothing."""

    more = [conf.Host(reset="rollback"), conf.Host(prewarm=True)]
    zfs = Lab(firmware="bios", store="zfs", prewarm=False, image=image, say=say, more=more)
    files = Lab(firmware="bios", prewarm=False, image=image, say=say)
    for lab in (zfs, files):
        stack.enter_context(lab)
    swap, rollback, prewarmed = (Ours(zfs, number) for number in (1, 2, 3))
    plain = Ours(files)
    prewarmed.rest()
    for host in (swap, rollback, plain):
        host.begin_run()
    return {
        "rollback": rollback.reset,
        "swap": swap.reset,
        "prewarmed": prewarmed.prewarmed,
        "files": plain.reset,
    }


def make_ways(image: Path, stack: ExitStack) -> dict[str, Callable[[], float]]:
    """Bring everything up; return what measures one round of each way."""
    at = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
    hosts: dict[str, LocalHost] = {}
    for name in ("local", "loadvm", "redeploy"):
        network = stack.enter_context(net.Network(f"zfsiscsi-{name}-{os.getpid()}"))
        host = LocalHost(image, at / name, network, disk_first=name != "redeploy")
        stack.callback(host.machine.off)
        hosts[name] = host
    server = DeployServer(image, at / "server", hosts["redeploy"].network)
    stack.enter_context(server.serving())
    vm = hosts["loadvm"]
    vm.revert()
    vm.machine.on()
    vm.save()
    vm.machine.off()
    hosts["redeploy"].blank()

    def on_disk(name: str, restore: Callable[[LocalHost], None]) -> Callable[[], float]:
        def measure() -> float:
            host = hosts[name]
            took = once(host.network, image, lambda: restore(host))
            host.machine.off()
            return took

        return measure

    def cold(host: LocalHost) -> None:
        host.revert()
        host.machine.on()

    def redeploy(host: LocalHost) -> None:
        server.pending = True
        host.machine.on()

    return {
        "local": on_disk("local", cold),
        "loadvm": on_disk("loadvm", LocalHost.load),
        "redeploy": on_disk("redeploy", redeploy),
        **labs(image, stack),
    }


def summarize(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return a row for each way: its rounds, their median, smallest, largest, ratio to `local`."""
    local = median(seconds["local"])
    return [
        {
            "way": WAYS[name],
            "seconds": times,
            "median_s": median(times),
            "min_s": min(times),
            "max_s": max(times),
            "ratio": median(times) / local,
        }
        for name, times in seconds.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table as docs/measure.rst has it."""
    width = max(map(len, WAYS.values()))
    line = "  ".join("=" * size for size in (width, 8, 8, 8, 10))
    head = f"{'way':{width}}  {'median s':8}  {'min':8}  {'max':8}  ratio to a"
    lines = [line, head, line]
    for row in rows:
        seconds = "  ".join(f"{row[key]:<8.2f}" for key in ("median_s", "min_s", "max_s"))
        lines.append(f"{row['way']:{width}}  {seconds}  {row['ratio']:.3f}")
    return "\n".join([*lines, line])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON in the end, for programs")
    options = parser.parse_args()
    image = guest_image.build(guest_image.default_cache(), progress=print)
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    with ExitStack() as stack:
        ways = make_ways(image, stack)
        for number in range(1, options.rounds + 1):
            for name, measure in ways.items():
                seconds[name].append(measure())
                print(f"round {number}  {WAYS[name]:34} {seconds[name][-1]:7.2f} s", flush=True)
    rows = summarize(seconds)
    print(f"\n{table(rows)}")
    if options.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
