"""scripts/lab as a user runs it: real boots."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.bring_up import FOLDER, PREFIX, leftovers, remove

MAIN = [sys.executable, "-m", "cuckoo_zfsiscsi.lab.main"]


@contextmanager
def lab(*options: str, until: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run it in the background until it says something; give the process and its directory."""
    with subprocess.Popen(
        [*MAIN, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # What a shell runs in the background is not interrupted by Ctrl-C, nor are our children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stdout
            said = ""
            while until not in said:
                character = process.stdout.read(1)
                assert character, said
                said += character
            (at,) = (at for at in FOLDER.glob(f"{PREFIX}*") if owner_of(at) == process.pid)
            yield process, at
        finally:
            process.kill()


def owner_of(at: Path) -> int:
    try:
        return int((at / "owner").read_text().split()[0])
    except FileNotFoundError:
        return -1


def is_gone(at: Path) -> bool:
    return not at.exists() and not (net.FOLDER / at.name).exists()


def run_main(file: Path, *options: str) -> tuple[str, dict[str, Any]]:
    """Run it once to its end; return what it printed and its JSON document."""
    argv = [*MAIN, "--runs", "1", "--json", str(file), *options]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=1100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(file.read_text())


def check_result(said: str, result: dict[str, Any]) -> None:
    assert "\nPASS\n" in said
    assert "table 4" in said
    assert (result["result"], result["faults"]) == ("pass", [])
    (run,) = result["runs"]
    assert run["clean"] is True
    assert run["generation"] >= 1
    assert 0 < run["stages"]["dhcp"] <= run["stages"]["login"] < run["stages"]["rpc"]
    assert run["recovery_s"] > 0
    assert result["without_reset"]["came_up"] is False
    assert any("does not boot" in line for line in result["without_reset"]["console"])
    assert result["after"]["clean"] is True
    assert result["after"]["generation"] > run["generation"]


def check_measured(said: str) -> None:
    """One recovery, whose parts fit together: RPC is away while disk and power are dealt with."""
    rows = [line.split() for line in said.splitlines()]
    (row,) = (row for row in rows if row[:1] == ["1"])
    recovery, start, dhcp, login, rpc = (float(row[column]) for column in (1, 2, 5, 7, 8))
    assert 0 < dhcp < login < rpc < recovery + 1
    assert recovery < start + 5
    assert ["FOG", "1.2", "646", "625", "611", "627.3"] in rows


@pytest.mark.lab
@pytest.mark.timeout(500)
def test_bios_and_kept(tmp_path: Path) -> None:
    """With --keep it stays up; what it says can be tried works; then it can be taken down."""
    said, result = run_main(tmp_path / "json", "--keep")
    check_result(said, result)
    assert result["firmware"] == "bios"
    lines = said.rstrip().split("\n")
    (start,) = (number for number, line in enumerate(lines) if line.startswith("The lab stays up"))
    at = Path(lines[start].split()[-2].rstrip("."))
    try:
        hosts, begin, probe, curl, power, stop, measure, _tail, down = lines[start + 1 :]
        assert down.strip() == "scripts/lab --down"
        assert at in leftovers()
        for command in (hosts, begin, probe, curl, power, stop, measure):
            tried = subprocess.run(
                ["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False
            )
            assert tried.returncode == 0, command + tried.stdout + tried.stderr
        check_measured(tried.stdout)
    finally:
        remove(at)
    assert is_gone(at)


@pytest.mark.lab
@pytest.mark.timeout(500)
def test_uefi_prewarmed(tmp_path: Path) -> None:
    said, result = run_main(tmp_path / "json", "--firmware", "uefi", "--prewarm")
    check_result(said, result)
    assert result["firmware"] == "uefi"
    (run,) = result["runs"]
    assert run["prewarmed"] is True
    assert run["start_s"] < run["stages"]["login"]
    (line,) = (line for line in said.split("\n") if "run 1: start" in line)
    assert line.count(" login ") == 1


@pytest.mark.lab
@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    ("power", "more"),
    [("redfish", []), ("wol", []), ("ipmi", ["--dhcp", "isc", "--rom", "plain", "--mutual-chap"])],
)
def test_other_ways(power: str, more: list[str], tmp_path: Path) -> None:
    said, result = run_main(tmp_path / "json", "--power", power, *more)
    check_result(said, result)
    assert result["power"] == power


@pytest.mark.lab
@pytest.mark.timeout(1200)
def test_from_a_storage_server_with_zfs_and_lio(tmp_path: Path) -> None:
    said, result = run_main(tmp_path / "json", "--store", "zfs")
    check_result(said, result)
    assert result["store"] == "zfs"


@pytest.mark.lab
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_leaves_nothing(number: signal.Signals) -> None:
    with lab(until="  power ") as (process, at):
        assert not is_gone(at)
        assert at not in leftovers()
        process.send_signal(number)
        assert process.stdout
        said = process.stdout.read()
        assert process.wait(60) == 1, said
        assert is_gone(at), said
    assert "interrupted" in said
    assert said.rstrip().endswith("FAIL")


@pytest.mark.lab
def test_killed_then_taken_down() -> None:
    with lab(until="  power ") as (process, at):
        process.kill()
        process.wait()
        assert at in leftovers()
        remove(at)
        assert is_gone(at)


def test_help_and_bad_options() -> None:
    done = subprocess.run([*MAIN, "--help"], capture_output=True, text=True, check=True)
    assert "--firmware" in done.stdout
    for options in (
        ["--firmware", "floppy"],
        ["--runs", "0"],
        ["--json", "/nowhere/x.json"],
        ["--dhcp", "windows"],
        ["--dhcp", "isc", "--store", "zfs"],
        ["--rom", "plain", "--firmware", "uefi"],
        ["--rom", "http"],
        ["--dhcp", "paper"],
        ["--reset-on", "boot", "--prewarm"],
    ):
        bad = subprocess.run([*MAIN, *options], capture_output=True, text=True, check=False)
        assert bad.returncode == 2
        assert bad.stderr
