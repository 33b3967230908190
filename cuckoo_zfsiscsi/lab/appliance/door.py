"""The appliance's command line: for whoever develops, and for scripts/test."""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal

from cuckoo_zfsiscsi.errors import LabError, ZfsIscsiError
from cuckoo_zfsiscsi.lab.appliance import image
from cuckoo_zfsiscsi.lab.appliance.appliance import OUT, Appliance

DESCRIPTION = """\
Run a command in the storage appliance: an emulated server with real ZFS and LIO. It is root
there, in the checkout, which is seen as it is now (read-only; what is to come out goes to
$OUT_DIRECTORY). /dev/vdb is an empty disk of 12 GiB for pools. The first call builds the
appliance, which takes minutes.
"""
EXAMPLES = """\
examples:
  python -m cuckoo_zfsiscsi.lab.appliance -- zpool create tank /dev/vdb
      boot a new appliance, run this, throw the appliance away (15 seconds and more)
  python -m cuckoo_zfsiscsi.lab.appliance --keep x -- python3 -m pytest tests/zfs
      the same in appliance x, booted if it is off, which stays: the next call needs a second
  python -m cuckoo_zfsiscsi.lab.appliance --keep x --fresh -- zpool status
      in a new appliance x, with empty disks
  python -m cuckoo_zfsiscsi.lab.appliance --power-fail x
      cut its power; its disks stay, and --keep x boots it again
  python -m cuckoo_zfsiscsi.lab.appliance --down x
      end it, and throw its disks away

exit status: the command's; 128 and more if a signal ended it; 125 if the appliance failed.
"""
FAILED = 125
"""Exit status that tells our failure from the command's, as docker run does."""
TIMEOUT = 4 * 3600.0
"""Seconds that a command may take if not told otherwise: all tests, on a busy machine."""


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(
        prog="python -m cuckoo_zfsiscsi.lab.appliance",
        usage="%(prog)s [--keep NAME] [OPTION...] [--] CMD...\n"
        "       %(prog)s --build | --power-fail NAME | --down NAME | --list",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--keep", metavar="NAME", help="use the appliance of this name and leave it on")
    add("--fresh", action="store_true", help="with --keep: begin with a new one, with empty disks")
    add("--env", metavar="NAME=VALUE", action="append", default=[], help="more environment for CMD")
    add("--cwd", metavar="DIRECTORY", help="where CMD runs; the checkout if not told")
    add(
        "--timeout",
        metavar="S",
        type=float,
        default=TIMEOUT,
        help="seconds for CMD (%(default).0f)",
    )
    add("--memory", metavar="MIB", type=int, default=1536, help="of a new one (%(default)s)")
    add("--cpus", metavar="N", type=int, default=1, help="of a new one (%(default)s)")
    add("--disk", metavar="GIB", type=int, action="append", default=[],
        help="one more disk for a new one: /dev/vdd, then /dev/vde, ...")  # fmt: skip
    add("--out", metavar="DIRECTORY", type=Path,
        help=f"receives what CMD leaves in {OUT}, which is $OUT_DIRECTORY")  # fmt: skip
    add("--build", action="store_true", help="only build what is not built yet")
    add("--power-fail", metavar="NAME", help="cut the power of the appliance of this name")
    add("--down", metavar="NAME", help="end the appliance of this name, its disks included")
    add("--list", action="store_true", help="tell which appliances there are")
    add("command", metavar="CMD", nargs=argparse.REMAINDER, help="program and its arguments")
    return made


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; return the exit status."""
    wanted = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminated)  # so that nothing is left behind
    try:
        return _do(wanted)
    except ZfsIscsiError as error:
        print(f"error: {error.what}", file=sys.stderr)  # noqa: T201
        if error.fix:
            print(f"fix: {error.fix}", file=sys.stderr)  # noqa: T201
        return FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _do(wanted: argparse.Namespace) -> int:
    cache = image.default_cache()
    kept = cache / "kept"
    if wanted.list:
        for state in sorted(kept.glob("*/")):
            on = Appliance(state, image.Image(cache)).is_on
            print(f"{state.name}: {'on' if on else 'off'}")  # noqa: T201
        return 0
    if name := wanted.power_fail or wanted.down:
        with _named(kept, name) as state:
            Appliance(state, image.Image(cache)).power_fail()
            if wanted.down:
                shutil.rmtree(state, ignore_errors=True)
        return 0
    command = wanted.command[1:] if wanted.command[:1] == ["--"] else wanted.command
    if not command and not wanted.build:
        raise LabError("no command", fix="python -m cuckoo_zfsiscsi.lab.appliance --help")
    if wanted.keep:
        with _named(kept, wanted.keep) as state:
            appliance = _appliance(wanted, state, cache)
            if wanted.fresh:
                appliance.off()
                shutil.rmtree(state, ignore_errors=True)
            if not appliance.is_on:
                appliance.image = image.build(cache, progress=_say)
                _say(f"starting appliance {wanted.keep}")
                appliance.start()
        return _run(wanted, appliance, command)
    built = image.build(cache, progress=_say)
    if wanted.build:
        return 0
    with tempfile.TemporaryDirectory(prefix=f"run-{os.getpid()}-", dir=_runs(cache)) as made:
        appliance = _appliance(wanted, Path(made), cache)
        appliance.image = built
        _say("starting an appliance")
        with appliance:
            return _run(wanted, appliance, command)


def _appliance(wanted: argparse.Namespace, state: Path, cache: Path) -> Appliance:
    disks = [size << 30 for size in wanted.disk]
    return Appliance(state, image.Image(cache), memory=wanted.memory, cpus=wanted.cpus, disks=disks)


def _run(wanted: argparse.Namespace, appliance: Appliance, command: list[str]) -> int:
    env = {"OUT_DIRECTORY": OUT}
    for word in wanted.env:
        name, _, value = word.partition("=")
        env[name] = value
    try:
        return appliance.run(
            command, timeout=wanted.timeout, on_output=_show, env=env, cwd=wanted.cwd
        )
    finally:
        if wanted.out:
            shutil.copytree(appliance.out, wanted.out, dirs_exist_ok=True)


@contextmanager
def _named(kept: Path, name: str) -> Iterator[Path]:
    """Be the only one who switches the appliance of this name; yield its directory."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise LabError(f"{name!r} can't name an appliance", fix="letters, digits, - and _")
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield kept / name


def _runs(cache: Path) -> Path:
    """Return where appliances that are not kept lie; remove those whose owner was killed."""
    runs = cache / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    for state in runs.glob("run-*"):
        if not Path("/proc", state.name.split("-")[1]).exists():
            Appliance(state, image.Image(cache)).power_fail()
            shutil.rmtree(state, ignore_errors=True)
    return runs


def _show(stream: Literal["out", "err"], data: bytes) -> None:
    file = sys.stdout if stream == "out" else sys.stderr
    file.buffer.write(data)
    file.buffer.flush()


def _say(text: str) -> None:
    print(f"appliance: {text}", file=sys.stderr, flush=True)  # noqa: T201


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
