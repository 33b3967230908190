"""The lab's program (scripts/lab): the whole path on one machine, with an emulated host.

An emulated host netboots, is infected, and comes back clean, through CAPE's plugin and the real
service, target, DHCP server and BMC protocol. Everything it makes is gone at the end.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from cuckoo_zfsiscsi.errors import LabError, ZfsIscsiError
from cuckoo_zfsiscsi.lab import bring_up, guest_image, malware
from cuckoo_zfsiscsi.lab.bring_up import LABEL, Lab
from cuckoo_zfsiscsi.lab.cape_standin import CuckooCriticalError, CuckooMachineError
from cuckoo_zfsiscsi.lab.result import Result
from cuckoo_zfsiscsi.lab.runs import run_once, stop, without_reset
from cuckoo_zfsiscsi.lab.watch import Watch

LONGER = 2.0
"""How many boots long the host is watched that must not come up, and at least LEAST seconds."""
LEAST = 30.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class Firmware(str, Enum):
    """What starts the emulated host."""

    BIOS = "bios"
    UEFI = "uefi"


class Teller:
    """Prints what goes on: lines that begin with the time, stages of a boot as they come."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._open = False

    def say(self, text: str) -> None:
        """Begin a line."""
        self.end()
        seconds = time.monotonic() - self._began
        self._console.print(f"[dim]{seconds:6.1f} s[/]  {text}", end="", highlight=False)
        self._open = True

    def stage(self, name: str, seconds: float) -> None:
        """Add a stage of a boot to the line."""
        self._console.print(f"  {name} [cyan]{seconds:.1f}[/]", end="", highlight=False)

    def end(self) -> None:
        """End the line."""
        if self._open:
            self._console.print()
        self._open = False


def show(lab: Lab, result: Result, tell: Teller) -> None:
    """Do the main job: runs, a power-up without reset, a last look. Fill in the result.

    Raises:
        CuckooMachineError, ZfsIscsiError: the path is broken somewhere.
    """
    with Watch(lab.network, lab.address) as watch:
        down = 0.0
        for number in range(1, result.wanted + 1):
            tell.say(f"run {number}:")
            run = run_once(lab, watch, number, down=down, stage=tell.stage)
            result.runs.append(run)
            tell.say(f"run {number}: recovered in {run.recovery_s:.1f} s; {run.detail}")
            malware.infect(lab.network, lab.address)
            tell.say(f"run {number}: infected: marker file, 2 MiB of random data from sector 0 on")
            if number == result.wanted:
                seconds = max(LEAST, LONGER * max(run.recovery_s for run in result.runs))
                tell.say(f"without the reset: power off and on, watched for {seconds:.0f} s")
                result.without_reset = without_reset(lab, watch, seconds)
                seen = "it CAME UP" if result.without_reset.came_up else "it does not come up"
                tell.say(f"without the reset: {seen}; {result.without_reset.console}")
            down = stop(lab, watch)
            tell.say(f"run {number}: stopped, power proved off")
        tell.say("last look:")
        result.after = run_once(lab, watch, result.wanted + 1, down=down, stage=tell.stage)
        tell.say(f"last look: {result.after.detail}")
        stop(lab, watch)


def take_down(console: Console) -> int:
    """Take down what earlier calls left; return the exit code."""
    left = bring_up.left()
    for at in left:
        bring_up.remove(at)
        console.print(f"{at} is taken down", highlight=False)
    if not left:
        console.print("no lab is up")
    return 0


def how_to_go_on(lab: Lab, console: Console) -> None:
    """Print what can be tried with a lab that stays up."""
    command = f"{sys.executable} -m cuckoo_zfsiscsi --conf {lab.conf}"
    inside = f"nsenter --net=/run/netns/{lab.network.name}"
    console.print(f"\nThe lab stays up, its files in {lab.at}. Try:", highlight=False)
    for line in (
        f"{command} hosts",
        f"{command} start {LABEL}",
        f"{inside} {command} probe {lab.address}",
        f"{inside} {command} power {LABEL} status",
        f"{inside} curl -s http://{lab.address}:8000/",
        f"{command} stop {LABEL}",
        f"tail -f {lab.log} {lab.machine.state}/console",
        "scripts/lab --down",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)


@app.command(help="Show the whole path on this machine, with an emulated host. Needs root.")
def main(
    runs: Annotated[int, typer.Option(min=1, help="How many times.")] = 3,
    firmware: Annotated[Firmware, typer.Option(help="Of the emulated host.")] = Firmware.BIOS,
    prewarm: Annotated[bool, typer.Option("--prewarm", help="Boot while CAPE is idle.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write what was seen to this file.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it up.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Take down what --keep left.")] = False,
) -> None:
    """Run; the exit code is 0 for PASS."""
    console = Console(soft_wrap=True)
    if down:
        raise typer.Exit(take_down(console))
    for at in bring_up.left():
        console.print(f"an earlier lab is still there: {at}; scripts/lab --down removes it")
    result = Result(firmware.value, prewarm, runs)
    tell = Teller(console)
    lab = None
    try:
        tell.say("guest disk")
        image = guest_image.build(
            guest_image.default_cache(), progress=lambda text: tell.say(f"guest disk: {text}")
        )
        lab = Lab(firmware=firmware.value, prewarm=prewarm, image=image, say=tell.say)
        lab.up()
        show(lab, result, tell)
    except (ZfsIscsiError, CuckooMachineError, CuckooCriticalError) as error:
        result.error = str(error)
    except KeyboardInterrupt as end:
        result.error = f"ended by {end or 'Ctrl-C'}"
        keep = False
    finally:
        tell.end()
        if lab and not keep:
            _in_peace(lab, result)
    if json:
        result.write(json)
    result.show(console)
    if lab and keep:
        how_to_go_on(lab, console)
    raise typer.Exit(1 if result.faults else 0)


def _in_peace(lab: Lab, result: Result) -> None:
    """Take the lab down, whatever signals come."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if result.error:
        _save_logs(lab)
    lab.down()


def _save_logs(lab: Lab) -> None:
    """Keep what a failure can be understood from."""
    kept = guest_image.default_cache() / "last-failure"
    kept.mkdir(parents=True, exist_ok=True)
    for path in (lab.log, *lab.machine.state.glob("console-*.log")):
        if path.exists():
            (kept / path.name).write_bytes(path.read_bytes())
    sys.stderr.write(f"logs of the failure: {kept}\n")


def _end(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def run(arguments: Sequence[str]) -> int:
    """Run the program; return its exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    if os.geteuid() != 0:
        sys.stderr.write("error: the lab needs root\nfix: sudo scripts/lab\n")
        return 1
    try:
        app(args=list(arguments), prog_name="scripts/lab")
    except LabError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
