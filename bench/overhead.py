"""What the service adds to a boot: the same host and disk, by us and from a static set-up.

    .venv/bin/python -m bench.overhead [--pairs 5] [--firmware bios|uefi] [--json]

(a) start() of CAPE's plugin until RPC answers: the disk is proven again, armed with new
    credentials, power is proved off and switched on, and the boot script is made for this boot.
(b) ipmitool power on until RPC answers: tgtd, dnsmasq and a file HTTP server with fixed
    configurations and no CHAP, on a copy of the same image.

Both hosts are the same emulated machine, in two networks; one is on at a time, in turns. RPC is
probed from outside every 0.1 s. The last column is the ratio within each pair.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.lab import guest_image, qemu
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.bmc import Bmc
from cuckoo_zfsiscsi.lab.bring_up import Lab
from cuckoo_zfsiscsi.lab.conf import LABEL
from cuckoo_zfsiscsi.lab.static import StaticServers, copy_disk
from cuckoo_zfsiscsi.lab.watch import Watch
from cuckoo_zfsiscsi.measure import watch as outside

BOOT = 150.0
"""Seconds that a boot may take."""


def boot_by_us(lab: Lab, watch: outside.Watch) -> float:
    """Return seconds from start() to RPC."""
    deadline = Deadline(BOOT)
    while lab.client.host(LABEL)["state"] != "clean":
        deadline.sleep(0.1, "the reset")
    begin = time.monotonic()
    lab.plugin.start(LABEL)
    up_at = watch.up(Deadline(10), after=begin)
    lab.plugin.stop(LABEL)
    watch.down(Deadline(10))
    return up_at - begin


class Static:
    """The static set-up: a fresh copy of the disk for each boot, made before the clock runs."""

    def __init__(self, image: Path, firmware: qemu.Firmware, at: Path, stack: ExitStack) -> None:
        self._image, self._disk, self._at = image, at / "disk.raw", at
        self.network = stack.enter_context(net.Network(f"zfsiscsi-static-{os.getpid()}"))
        machine = qemu.create(at / "host", 1, firmware, self.network)
        stack.callback(machine.off)
        self._machine = machine
        self._bmc = stack.enter_context(Bmc(machine, 1, self.network, password="bench"))  # noqa: S106

    def boot(self, watch: outside.Watch) -> float:
        """Return seconds from power on to RPC."""
        copy_disk(self._image, self._disk)
        with StaticServers(self.network, self._disk, self._at / "servers"):
            begin = time.monotonic()
            self._bmc.ipmitool("chassis", "power", "on")
            up_at = watch.up(Deadline(BOOT), after=begin)
            self._machine.off()
            watch.down(Deadline(10))
        return up_at - begin


def measure(pairs: int, firmware: qemu.Firmware) -> dict[str, Any]:
    """Boot in turns; return seconds and ratios."""
    image = guest_image.build(guest_image.default_cache(), progress=print)
    rows = []
    with ExitStack() as stack:
        at = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        lab = stack.enter_context(
            Lab(firmware=firmware, prewarm=False, image=image, say=lambda _what: None)
        )
        static = Static(image, firmware, at, stack)
        address = str(net.host_address(1))
        ours = stack.enter_context(Watch(lab.network, address))
        theirs = stack.enter_context(Watch(static.network, address))
        for number in range(1, pairs + 1):
            a, b = boot_by_us(lab, ours), static.boot(theirs)
            rows.append((a, b))
            print(f"pair {number}: {a:6.2f} {b:6.2f}   {a / b:5.2f}", flush=True)
    return {
        "firmware": firmware,
        "ours_s": [a for a, _ in rows],
        "static_s": [b for _, b in rows],
        "median_ours_s": median(a for a, _ in rows),
        "median_static_s": median(b for _, b in rows),
        "median_ratio": median(a / b for a, b in rows),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--firmware", choices=["bios", "uefi"], default="bios")
    parser.add_argument("--json", action="store_true", help="print JSON in the end, for programs")
    options = parser.parse_args()
    print("          ours  static  ratio")
    result = measure(options.pairs, options.firmware)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        ours, static = result["median_ours_s"], result["median_static_s"]
        print(f"median: {ours:6.2f} {static:6.2f}   {result['median_ratio']:5.2f}")


if __name__ == "__main__":
    main()
