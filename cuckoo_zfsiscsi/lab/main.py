"""The lab's program (scripts/lab): the whole path on one machine, with an emulated host.

An emulated host netboots, is infected, and comes back clean, through CAPE's plugin and the real
service, target, DHCP server and BMC protocol. Everything it makes is gone at the end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from cuckoo_zfsiscsi.errors import ZfsIscsiError
from cuckoo_zfsiscsi.lab import bring_up, devices, guest_image, malware
from cuckoo_zfsiscsi.lab.bring_up import Lab, Store
from cuckoo_zfsiscsi.lab.cape_standin import CuckooCriticalError, CuckooMachineError
from cuckoo_zfsiscsi.lab.command import HANG
from cuckoo_zfsiscsi.lab.conf import LABEL
from cuckoo_zfsiscsi.lab.machine import MachineError
from cuckoo_zfsiscsi.lab.qemu import Firmware, Rom
from cuckoo_zfsiscsi.lab.result import Result
from cuckoo_zfsiscsi.lab.routes.outside import Outside
from cuckoo_zfsiscsi.lab.routes.route import Route
from cuckoo_zfsiscsi.lab.runs import (
    call_home,
    reboot,
    reboot_in_run,
    run_once,
    stop,
    without_reset,
)
from cuckoo_zfsiscsi.lab.show import Progress, print_result
from cuckoo_zfsiscsi.lab.watch import Watch
from cuckoo_zfsiscsi.lab.way import Dhcp, ResetOn, Way

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def work(lab: Lab, result: Result, tell: Progress) -> None:
    """Do the main job: runs, a power-up without reset, a last look. Fill in the result.

    With reset_on = boot no power-up is without a reset: there a mere reboot is shown instead.

    Raises:
        CuckooMachineError, ZfsIscsiError, MachineError: the path is broken somewhere.
    """
    with Watch(lab.network, lab.address) as watch:
        down = 0.0
        for number in range(1, result.wanted + 1):
            tell.say(f"run {number}: start")
            run = run_once(lab, watch, number, down=down, stage=tell.stage)
            result.runs.append(run)
            tell.say(f"run {number}: {run.recovery_s:.1f} s; {run.detail}")
            if lab.outside:
                lab.outside.enable()
                use_route(lab, lab.outside, watch, result, tell)
            malware.infect(lab.network, lab.address)
            tell.say(f"run {number}: infected: a marker file; 2 MiB of random data over sector 0")
            if number == result.wanted and result.reset_on == "boot":
                tell.say("a mere reboot: the reset button, and wait")
                result.reboot = reboot(lab, watch, number)
                tell.say(f"a mere reboot: {result.reboot.detail}")
            elif number == result.wanted:
                tell.say("without the reset: power off and on, and wait")
                slowest = max(one.stages["rpc"] for one in result.runs)
                result.without_reset = without_reset(lab, watch, slowest)
                seen = "it CAME UP" if result.without_reset.came_up else "it does not come up"
                tell.say(f"without the reset: {seen}")
            if lab.outside:
                lab.outside.disable()
            down = stop(lab, watch)
            tell.say(f"run {number}: stopped, power proved off")
        tell.say("last look: start")
        result.after = run_once(lab, watch, result.wanted + 1, down=down, stage=tell.stage)
        tell.say(f"last look: {result.after.detail}")
        if lab.outside:
            result.total = lab.outside.seen()
        stop(lab, watch)


def use_route(lab: Lab, outside: Outside, watch: Watch, result: Result, tell: Progress) -> None:
    """Have the sample call its C2, in run 1 also after a reboot. Fill in the result.

    Raises:
        CuckooMachineError, ZfsIscsiError, MachineError: the path is broken somewhere.
    """
    run = result.runs[-1]
    run.seen = call_home(lab, outside)
    answered = run.seen.answered or "nobody"
    tell.say(f"run {run.number}: route {outside.route}: {answered} answered the sample")
    if run.number == 1 and result.reset_on == "start":
        tell.say("run 1: the reset button: a reboot within the run")
        again = result.reboot_in_run = reboot_in_run(lab, outside, watch, run.number)
        tell.say(f"run 1: rebooted, {'the same' if again.same_disk else 'ANOTHER'} disk")


def take_down(console: Console) -> None:
    """Take down what earlier calls left."""
    left = bring_up.leftovers()
    for at in left:
        bring_up.remove(at)
        console.print(f"{at} is taken down")
    if not left:
        console.print("no lab is up")


def how_to_go_on(lab: Lab, console: Console) -> None:
    """Print what can be tried with a lab that stays up."""
    command = f"{sys.executable} -m cuckoo_zfsiscsi --conf {lab.conf}"
    inside = " ".join(lab.network.prefix)
    console.print(f"\nThe lab stays up; its files are in {lab.at}. Try:")
    for line in (
        f"{command} hosts {LABEL}",
        f"{command} start {LABEL}",
        f"{inside} {command} probe {lab.address} --timeout {HANG:.0f}",
        f"{inside} curl -s http://{lab.address}:8000/",
        f"{inside} {command} power {LABEL} status",
        f"{command} stop {LABEL}",
        f"{inside} {command} measure recovery {LABEL} --runs 1",
        f"tail -f {lab.server.logs[0]} {lab.machine.state}/console",
        "scripts/lab --down",
    ):
        console.print(f"  {line}")


@app.command(help="Show the whole path on this machine, with an emulated host. Needs root.")
def main(
    runs: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    firmware: Annotated[Firmware, typer.Option(help="Of the emulated host.")] = "bios",
    store: Annotated[
        Store,
        typer.Option(
            help="file: everything on this machine. zfs: the storage server is an emulated machine "
            "too, with ZFS and LIO; it is built at first, which takes minutes."
        ),
    ] = "file",
    power: Annotated[
        devices.Kind,
        typer.Option(
            help="What switches the host: a BMC by IPMI or Redfish; or wol, which has none: woken "
            "by Wake-on-LAN, cut by a smart plug."
        ),
    ] = "ipmi",
    dhcp: Annotated[
        Dhcp,
        typer.Option(
            help="The DHCP server. paper: its own, dhcpd with a hook that resets, and the boot "
            "script by TFTP."
        ),
    ] = "dnsmasq",
    reset_on: Annotated[
        ResetOn,
        typer.Option(
            help="start: CAPE's start gives a clean disk. boot: each boot does, also a mere "
            "press of the reset button."
        ),
    ] = "start",
    rom: Annotated[
        Rom,
        typer.Option(
            help="The card's ROM, with BIOS: ipxe, QEMU's own, asks for the boot script at once; "
            "plain loads iPXE first, as most physical cards do. With UEFI ipxe is the firmware's "
            "PXE, and http its HTTP boot."
        ),
    ] = "ipxe",
    route: Annotated[
        Route,
        typer.Option(
            help="Where a run's traffic may go, as CAPE's rooter lets it: internet, where the "
            "sample's C2 answers; inetsim, where INetSim does; none and drop: nowhere. CAPE's own "
            "rooter, if CAPE_ROOT is set."
        ),
    ] = "internet",
    mutual_chap: Annotated[
        bool, typer.Option("--mutual-chap", help="The iSCSI target proves itself to the host, too.")
    ] = False,
    boot_file: Annotated[
        str | None,
        typer.Option(help="boot_file of the host, as ipxe.efi; the fastest if not given."),
    ] = None,
    prewarm: Annotated[bool, typer.Option("--prewarm", help="Boot while CAPE is idle.")] = False,
    json: Annotated[
        Path | None, typer.Option(help="Write what was seen to this file.", dir_okay=False)
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it up.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only take down what was left up.")] = False,
) -> None:
    """Run; the exit code is 0 for PASS."""
    console = Console(highlight=False, soft_wrap=True)
    if down:
        take_down(console)
        return
    if json and not json.parent.is_dir():
        raise typer.BadParameter(f"{json.parent} is no directory", param_hint="--json")
    if store == "zfs" and dhcp != "dnsmasq":
        raise typer.BadParameter(
            "the emulated storage server has dnsmasq alone", param_hint="--dhcp"
        )
    if reset_on == "boot" and prewarm:
        raise typer.BadParameter(
            "with --reset-on boot nobody boots the host ahead", param_hint="--prewarm"
        )
    if dhcp == "paper" and reset_on != "boot":
        raise typer.BadParameter("paper goes with --reset-on boot", param_hint="--dhcp")
    if rom == ("plain" if firmware == "uefi" else "http"):
        raise typer.BadParameter(f"there is no {rom} with {firmware}", param_hint="--rom")
    for at in bring_up.leftovers():
        console.print(f"{at} is left from another lab; to remove it: scripts/lab --down")
    result, tell, lab = (
        Result(firmware, store, power, prewarm, runs, reset_on=reset_on, route=route),
        Progress(console),
        None,
    )
    try:
        tell.say("guest disk")
        image = guest_image.build(
            guest_image.default_cache(), progress=lambda what: tell.say(f"guest disk: {what}")
        )
        lab = Lab(
            firmware=firmware,
            store=store,
            power=power,
            prewarm=prewarm,
            image=image,
            say=tell.say,
            way=Way(dhcp, rom, boot_file, mutual_chap, reset_on),
            route=route,
        )
        lab.up()
        work(lab, result, tell)
    except (ZfsIscsiError, MachineError, CuckooMachineError, CuckooCriticalError) as error:
        result.error = str(error)
    except KeyboardInterrupt as end:
        result.error = f"interrupted by {str(end) or 'Ctrl-C'}"
        keep = False
    finally:
        try:
            result.capture = lab.keep_capture() if lab else None
            if lab and not keep:
                _take_down_in_peace(lab, result)
        finally:
            tell.end()
    if json:
        result.write(json)
    print_result(console, result)
    if lab and keep:
        lab.keep()
        how_to_go_on(lab, console)
    raise typer.Exit(1 if result.faults else 0)


def _take_down_in_peace(lab: Lab, result: Result) -> None:
    """Take the lab down, whatever signals come; keep what a failure can be understood from."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        if failed := sys.exc_info()[1] or "; ".join(result.faults):
            lab.keep_evidence(str(failed) or repr(failed))
    finally:
        lab.down()


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def run(arguments: Sequence[str]) -> int:
    """Run the program; return its exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    if os.geteuid() != 0 and "--help" not in arguments:
        sys.stderr.write("error: the lab needs root\nfix: sudo scripts/lab\n")
        return 1
    try:
        app(args=list(arguments), prog_name="scripts/lab")
    except ZfsIscsiError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
