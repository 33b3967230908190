"""scripts/lab as a user runs it: real boots."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.lab import guest_image, main
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.bring_up import FOLDER, PREFIX, leftovers, remove
from cuckoo_zfsiscsi.lab.routes.outside import namespaces
from tests.waiting import HANG

MAIN = [sys.executable, "-m", "cuckoo_zfsiscsi.lab.main"]


BOOTS = 2400.0
"""Seconds after which a lab hangs: what it shows is several boots, on processors that are busy."""
TIMEOUT = 3000
"""Of a test with one, which then says itself what it waited for."""


@contextmanager
def lab(*options: str, until: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run it in the background until it says something; give the process and its directory."""
    with subprocess.Popen(
        [*MAIN, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # What a shell runs in the background is not interrupted by Ctrl-C, nor are our children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stdout
            said, end = b"", time.monotonic() + BOOTS
            while until.encode() not in said:
                left = max(0.0, end - time.monotonic())
                assert select.select([process.stdout], [], [], left)[0], f"{until}: {said!r}"
                more = os.read(process.stdout.fileno(), 1)
                assert more, said
                said += more
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
    made = (net.Network(at.name), *namespaces(at.name))
    return not at.exists() and not any((net.FOLDER / one.name).exists() for one in made)


def run_main(file: Path, *options: str) -> tuple[str, dict[str, Any]]:
    """Run it once to its end; return what it printed and its JSON document."""
    argv = [*MAIN, "--runs", "1", "--json", str(file), *options]
    status, said = run_to_its_end(argv)
    assert status == 0, said
    return said, json.loads(file.read_text())


def run_to_its_end(argv: Sequence[str]) -> tuple[int, str]:
    """Run a program; return its status and what it printed."""
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=BOOTS)
        except subprocess.TimeoutExpired:
            process.terminate()  # upon which it takes down what it has made, and says where to look
            said, _ = process.communicate()
            pytest.fail(f"{argv} took longer than {BOOTS:.0f} s: {said}")
    return process.returncode, said


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
    check_route(result, run)


def check_route(result: dict[str, Any], run: dict[str, Any]) -> None:
    """Check what the sample reached, and that no packet of the disk went to the gateway."""
    answers = {"internet": ["c2"], "inetsim": ["inetsim"]}.get(result["route"], [])
    assert [name for name in ("c2", "inetsim") if run["seen"][name]] == answers
    assert result["reboot_in_run"]["same_disk"] is True
    assert result["reboot_in_run"]["generation"] == run["generation"]
    if (again := result["reboot_in_run"]["seen"]) is not None:
        assert [name for name in ("c2", "inetsim") if again[name]] == answers
    assert result["total"]["iscsi"] > 0
    assert result["total"]["iscsi_to_gateway"] == 0
    assert result["total"]["forbidden"] == []
    assert bool(result["total"]["left"]) == (result["route"] == "internet")


def check_measured(said: str, took_s: float) -> None:
    """One recovery, whose parts fit together: RPC is away while disk and power are dealt with."""
    rows = [line.split() for line in said.splitlines()]
    (row,) = (row for row in rows if row[:1] == ["1"])
    recovery, start, dhcp, login, rpc = (float(row[column]) for column in (1, 2, 5, 7, 8))
    assert 0 < dhcp < login < min(rpc, recovery)
    assert max(recovery, start, rpc) < took_s
    assert ["FOG", "1.2", "646", "625", "611", "627.3"] in rows


def check_what_it_says_to_verify(said: str) -> None:
    iscsi, c2 = (line for line in said.splitlines() if line.startswith("  tcpdump -nr "))
    status, packets = run_to_its_end(["sh", "-c", f"{iscsi} 2>/dev/null"])
    assert (status, packets) == (0, "")
    status, packets = run_to_its_end(["sh", "-c", f"{c2} 2>/dev/null"])
    assert status == 0
    assert "203.0.113.10.80 > 10.99.0.11." in packets


@pytest.mark.lab
@pytest.mark.timeout(TIMEOUT)
def test_bios_and_kept(tmp_path: Path) -> None:
    """With --keep it stays up; what it says can be tried works; then it can be taken down."""
    said, result = run_main(tmp_path / "json", "--keep")
    check_result(said, result)
    assert (result["firmware"], result["route"]) == ("bios", "internet")
    check_what_it_says_to_verify(said)
    lines = said.rstrip().split("\n")
    (start,) = (number for number, line in enumerate(lines) if line.startswith("The lab stays up"))
    at = Path(lines[start].split()[-2].rstrip("."))
    try:
        hosts, begin, probe, curl, power, stop, measure, _tail, down = lines[start + 1 :]
        assert down.strip() == "scripts/lab --down"
        assert at in leftovers()
        for command in (hosts, begin, probe, curl, power, stop, measure):
            began = time.monotonic()
            status, tried = run_to_its_end(["sh", "-c", command])
            assert status == 0, command + tried
        check_measured(tried, time.monotonic() - began)
    finally:
        remove(at)
    assert is_gone(at)


@pytest.mark.lab
@pytest.mark.timeout(TIMEOUT)
def test_uefi_prewarmed(tmp_path: Path) -> None:
    said, result = run_main(tmp_path / "json", "--firmware", "uefi", "--prewarm")
    check_result(said, result)
    assert result["firmware"] == "uefi"
    (run,) = result["runs"]
    assert run["prewarmed"] is True
    assert run["start_s"] < run["stages"]["login"]
    (line,) = (line for line in said.split("\n") if "run 1: start" in line)
    assert line.count(" login ") == 1


@pytest.mark.matrix
@pytest.mark.lab
@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize(
    ("power", "more"),
    [("redfish", []), ("wol", []), ("ipmi", ["--dhcp", "isc", "--rom", "plain", "--mutual-chap"])],
)
def test_other_ways(power: str, more: list[str], tmp_path: Path) -> None:
    said, result = run_main(tmp_path / "json", "--power", power, *more)
    check_result(said, result)
    assert result["power"] == power


@pytest.mark.matrix
@pytest.mark.lab
@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("route", ["inetsim", "none"])
def test_other_routes(route: str, tmp_path: Path) -> None:
    said, result = run_main(tmp_path / "json", "--route", route)
    check_result(said, result)
    assert result["route"] == route


@pytest.mark.lab
@pytest.mark.timeout(TIMEOUT)
def test_from_a_storage_server_with_zfs_and_lio(tmp_path: Path) -> None:
    said, result = run_main(tmp_path / "json", "--store", "zfs")
    check_result(said, result)
    assert result["store"] == "zfs"


@pytest.mark.matrix
@pytest.mark.lab
@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_leaves_nothing(number: signal.Signals) -> None:
    with lab(until="  power ") as (process, at):
        assert not is_gone(at)
        assert at not in leftovers()
        process.send_signal(number)
        assert process.stdout
        said = process.stdout.read().decode()
        assert process.wait(HANG) == 1, said
        assert is_gone(at), said
    assert "interrupted" in said
    (kept,) = re.findall(r"consoles, logs and packets: (\S+)", said)
    assert {"why.txt", "wire.pcap0"} <= {path.name for path in Path(kept).iterdir()}
    assert said.rstrip().endswith("FAIL")


@pytest.mark.matrix
@pytest.mark.lab
@pytest.mark.timeout(TIMEOUT)
def test_killed_then_taken_down() -> None:
    with lab(until="  power ") as (process, at):
        process.kill()
        process.wait()
        assert at in leftovers()
        remove(at)
        assert is_gone(at)


@pytest.mark.parametrize(("by", "named"), [((), "Ctrl-C"), (("SIGTERM",), "SIGTERM")])
def test_it_names_what_interrupted_it(
    by: tuple[str, ...],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_args: object, **_options: object) -> Path:
        raise KeyboardInterrupt(*by)

    monkeypatch.setattr(guest_image, "build", interrupt)
    assert main.run([]) == 1
    assert f"interrupted by {named}\nFAIL\n" in capsys.readouterr().out


def test_help_needs_no_root(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main.run(["--help"]) == 0
    assert "--firmware" in capsys.readouterr().out


def test_help_and_bad_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.run([*MAIN, "--help"], capture_output=True, text=True, check=True)
    assert "--firmware" in done.stdout
    monkeypatch.setattr("signal.signal", lambda *_: None)  # those of the test stay as they are
    for options in (
        ["--firmware", "floppy"],
        ["--runs", "0"],
        ["--json", "/nowhere/x.json"],
        ["--dhcp", "windows"],
        ["--route", "tor"],
        ["--dhcp", "isc", "--store", "zfs"],
        ["--rom", "plain", "--firmware", "uefi"],
        ["--rom", "http"],
        ["--dhcp", "paper"],
        ["--reset-on", "boot", "--prewarm"],
    ):
        assert main.run(options) == 2
        assert "--" in capsys.readouterr().err
