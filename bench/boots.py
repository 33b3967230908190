"""Every way to the boot script: seconds from power-on, and whether something waits in secret.

    .venv/bin/python -m bench.boots [--only ROW,...] [--dhcp SERVER,...] [--reset-on start,boot]
                                  [--runs 3] [--until login] [--json]

Rows:    bios-plain   a plain PXE ROM loads undionly.kpxe by TFTP, and that asks for the script
         bios-ipxe    the card's ROM is iPXE itself
         uefi-ipxe    UEFI's PXE loads ipxe.efi, which has network drivers of its own
         uefi-snponly UEFI's PXE loads snponly.efi, which uses the firmware's driver
         uefi-http    UEFI's HTTP boot loads it; edk2's waits some seconds for more offers
Servers: static       dnsmasq, HTTP and a target with fixed configurations, nothing of ours:
                      what ours is compared with, up to the script
         dnsmasq, isc, kea   run by the service
         paper    dhcpd resets, the script comes by TFTP; with reset_on = boot alone
Modes:   start    CAPE's start: the disk was reset before power-on
         boot     reset_on = boot: the reset button of a host that was ready, once, followed to RPC.
                  The disk is reset after the script was asked for (paper: before)

Each line has a lab of its own. Times are from a capture of the host's wire: the first DHCP message
and the request for the script (of the quickest boot), the iSCSI login (likewise); `rpc` is when RPC
answers. A bar is not held where iPXE waits in secret, for a proxy DHCP server (3 s) or a router
advertisement (13 s), or where a script came later than 1.15 times the static one's. The ratio is
without what the reset button costs the firmware; paper has no bar, as it resets before that.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import capture, guest_image, qemu
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.bring_up import Lab
from cuckoo_zfsiscsi.lab.cape_standin import CuckooMachineError
from cuckoo_zfsiscsi.lab.conf import LABEL
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.rom import PlainRom
from cuckoo_zfsiscsi.lab.static import StaticServers
from cuckoo_zfsiscsi.lab.way import Dhcp, ResetOn, Way

BOOT = 300.0
"""Seconds that a boot may take."""
PATIENCE = 2.0
"""Seconds: nothing that is computed takes so long, both secret waits take longer."""
RATIO = 1.15
SERVERS: tuple[Dhcp, ...] = get_args(Dhcp)


@dataclass(frozen=True)
class Row:
    """One kind of firmware."""

    firmware: qemu.Firmware
    rom: qemu.Rom
    boot_file: str


HTTP = "uefi-http"
"""There is no static one."""
ROWS = {
    "bios-plain": Row("bios", "plain", ""),
    "bios-ipxe": Row("bios", "ipxe", ""),
    "uefi-ipxe": Row("uefi", "ipxe", "ipxe.efi"),
    "uefi-snponly": Row("uefi", "ipxe", "snponly.efi"),
    HTTP: Row("uefi", "http", "snponly.efi"),
}


@dataclass
class Boot:
    """What one row took with one server, in seconds from power-on.

    Of several boots the quickest: the machine's other work can only add to it.
    """

    row: str
    server: str
    dhcp: float
    script: float
    login: float
    """0: not awaited."""
    rpc: float
    """Of one boot; 0: not awaited."""
    offer_wait: float
    """The longest of all boots, as the next."""
    script_wait: float
    reset_on: ResetOn = "start"

    @classmethod
    def of(
        cls,
        row: str,
        server: str,
        seen: list[capture.Times],
        rpc: float,
        reset_on: ResetOn = "start",
    ) -> Boot:
        """Make it from several boots."""
        return cls(
            row,
            server,
            min(one.dhcp for one in seen),
            min(one.script for one in seen),
            min(one.login for one in seen),
            rpc,
            max(one.offer_wait for one in seen),
            max(one.script_wait for one in seen),
            reset_on,
        )


def ratio(boot: Boot, static: Boot) -> float:
    """Return how much later a script came than the static one, power-on to power-on."""
    firmware = static.dhcp if boot.reset_on == "boot" else boot.dhcp
    return (firmware + boot.script - boot.dhcp) / static.script


def await_boot(wire: capture.Capture, machine: Machine, *, login: bool) -> capture.Times:
    """Wait until the host that is being switched on has asked for its script, or logged in."""
    deadline = Deadline(BOOT)
    while True:
        deadline.sleep(0.2, "the boot")
        with suppress(LabError):
            seen = capture.times(wire.events(), machine.powered_on)
            if seen.login or not login:
                return seen


@contextmanager
def watched_lab(
    name: str, server: Dhcp, image: Path, reset_on: ResetOn
) -> Iterator[tuple[Lab, capture.Capture]]:
    """Give a lab of ours with such a host, and a capture of its wire."""
    row = ROWS[name]
    way = Way(server, row.rom, row.boot_file, reset_on=reset_on)
    lab = Lab(firmware=row.firmware, prewarm=False, image=image, say=lambda _: None, way=way)
    with lab, capture.Capture(lab.network, lab.at / "boot.pcap") as wire:
        yield lab, wire


def ours(name: str, server: Dhcp, image: Path, runs: int, *, rpc: bool = True) -> Boot:
    """Boot by the service: to the iSCSI login and no further; the last one to RPC, if wanted."""
    seen, rpc_s = [], 0.0
    with watched_lab(name, server, image, "start") as (lab, wire):
        for number in range(1, runs + 1):
            deadline = Deadline(BOOT)
            while not is_settled(lab):
                deadline.sleep(0.1, "the reset")
            start = threading.Thread(target=start_until_stopped, args=[lab])
            before = lab.machine.powered_on
            start.start()
            while lab.machine.powered_on == before:
                deadline.sleep(0.02, "power")
            if number < runs or not rpc:
                seen.append(await_boot(wire, lab.machine, login=True))
            else:
                start.join()
                seen.append(capture.times(wire.events(), lab.machine.powered_on))
                stages = lab.client.host(LABEL)["last_boot"]["stages"]
                rpc_s = stages["rpc"] - stages["power"]
            lab.plugin.stop(LABEL)
            start.join()
    return Boot.of(name, server, seen, rpc_s)


def rebooted(name: str, server: Dhcp, image: Path) -> Boot:
    """Boot with reset_on = boot, press the reset button, and follow that boot to RPC."""
    with watched_lab(name, server, image, "boot") as (lab, wire):
        first = await_state(lab, "clean", 0)
        lab.machine.on()
        await_state(lab, "ready", first["generation"])
        pressed = time.time()
        lab.machine.reset()
        stages = await_state(lab, "ready", first["generation"] + 1)["last_boot"]["stages"]
        seen = capture.times(wire.events(), pressed)
    rpc = seen.script + stages["rpc"] - stages["script"]
    return Boot.of(name, server, [seen], rpc, "boot")


def await_state(lab: Lab, state: str, generation: int) -> dict[str, Any]:
    """Wait until the host is in a state with this or a later disk; return what is known of it."""
    deadline = Deadline(BOOT)
    while True:
        host = lab.client.host(LABEL)
        if host["state"] == state and host["generation"] >= generation:
            return host
        deadline.sleep(0.1, f"{state} host")


def is_settled(lab: Lab) -> bool:
    """Tell whether the host is clean and has its next spare: a copy would slow the boot down."""
    if lab.client.host(LABEL)["state"] != "clean":
        return False
    roles = json.loads((lab.at / "store" / "disks" / LABEL / "host.json").read_text())
    return roles["spare"] is not None


def start_until_stopped(lab: Lab) -> None:
    """Start the host as CAPE does; stop() ends this early."""
    with suppress(CuckooMachineError):
        lab.plugin.start(LABEL)


@contextmanager
def static_host(row: Row, at: Path) -> Iterator[tuple[net.Network, Machine]]:
    """Give an emulated host in a network without anything of ours."""
    with ExitStack() as stack:
        network = stack.enter_context(net.Network(f"zfsiscsi-{at.name}"))
        machine = qemu.create(at / "host", 1, row.firmware, network, rom=row.rom)
        stack.callback(machine.off)
        if row.rom == "plain":
            stack.enter_context(PlainRom(machine, network))
        yield network, machine


def static(name: str, image: Path, runs: int) -> Boot:
    """Boot from fixed configurations, as far as the script."""
    row = ROWS[name]
    seen = []
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp", prefix="boots-") as folder,
        static_host(row, Path(folder)) as (network, machine),
        # The script is all that is awaited: the disk is not written
        StaticServers(network, image, Path(folder) / "servers", boot_file=row.boot_file),
        capture.Capture(network, Path(folder) / "boot.pcap") as wire,
    ):
        for _ in range(runs):
            machine.on()
            seen.append(await_boot(wire, machine, login=False))
            machine.off()
    return Boot.of(name, "static", seen, 0.0)


def makes_sense(name: str, server: Dhcp, mode: str) -> bool:
    """Tell whether there is such a boot: the paper's servers reset on boot, and know no HTTP."""
    return server != "paper" or (mode == "boot" and name != HTTP)


def faults(boots: list[Boot]) -> list[str]:
    """Say which bars are not held."""
    plain = {boot.row: boot for boot in boots if boot.server == "static"}
    found = []
    for boot in boots:
        where = f"{boot.row}, {boot.server}" + ", reset on boot" * (boot.reset_on == "boot")
        for what, wait in (("offer", boot.offer_wait), ("script", boot.script_wait)):
            if boot.server != "static" and wait > PATIENCE:
                found.append(f"{where}: {wait:.1f} s of secret wait ({what})")
        if boot.row not in plain or boot.server == "paper":
            continue
        if (times := ratio(boot, plain[boot.row])) > RATIO:
            found.append(f"{where}: {times:.2f} times the static one")
    return found


def show(boot: Boot, static: Boot | None) -> None:
    """Print one line of the table."""
    times = f"{ratio(boot, static):5.2f}" if static else "    -"
    rest = [f"{value:6.1f}" if value else "     -" for value in (boot.login, boot.rpc)]
    print(
        f"{boot.row:13} {boot.server:8} {boot.reset_on:6}"
        f" {boot.dhcp:6.2f} {boot.script:6.2f} {times}"
        f" {' '.join(rest)}"
        f" {boot.offer_wait:11.2f} {boot.script_wait:11.2f}",
        flush=True,
    )


def main() -> int:
    """Print the table; 1 if a bar is not held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default=",".join(ROWS), help="rows, with commas")
    parser.add_argument("--dhcp", default=",".join(("static", *SERVERS)), help="with commas")
    parser.add_argument("--reset-on", default="start,boot", help="modes, with commas")
    parser.add_argument("--runs", type=int, default=3, help="starts of each, the last to RPC")
    parser.add_argument("--until", choices=["login", "rpc"], default="rpc", help="how far")
    parser.add_argument("--json", action="store_true", help="print JSON in the end, for programs")
    options = parser.parse_args()
    logging.disable()  # each start but the last is stopped on purpose, and says so
    image = guest_image.build(guest_image.default_cache(), progress=print)
    print("row           server   reset    dhcp script ratio  login    rpc  offer-wait script-wait")
    boots: list[Boot] = []
    for name in options.only.split(","):
        reference = None
        if "static" in options.dhcp.split(",") and name != HTTP:
            boots.append(static(name, image, options.runs))
            reference = boots[-1]
            show(boots[-1], None)
        for mode in options.reset_on.split(","):
            for server in SERVERS:
                if server not in options.dhcp.split(",") or not makes_sense(name, server, mode):
                    continue
                if mode == "boot":
                    boots.append(rebooted(name, server, image))
                else:
                    rpc = options.until == "rpc"
                    boots.append(ours(name, server, image, options.runs, rpc=rpc))
                show(boots[-1], reference)
    found = faults(boots)
    if options.json:
        print(json.dumps({"boots": [asdict(boot) for boot in boots], "faults": found}, indent=2))
    print("\n".join(found) or "no secret wait; every script within the bar")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
