"""scripts/lab as a user runs it: real boots."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.lab.lab import leftovers, remove

MAIN = [sys.executable, "-m", "cuckoo_zfsiscsi.lab.main"]


@pytest.mark.lab
@pytest.mark.timeout(400)
@pytest.mark.parametrize("options", [["--firmware", "bios"], ["--firmware", "uefi", "--prewarm"]])
def test_infected_and_clean_again(tmp_path: Path, options: list[str]) -> None:
    file = tmp_path / "result.json"
    argv = [*MAIN, "--runs", "1", "--json", str(file), *options]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("PASS")
    assert "table 4" in done.stdout
    result = json.loads(file.read_text())
    assert result["result"] == "pass"
    (run,) = result["runs"]
    assert run["clean"] is True
    assert run["generation"] >= 1
    assert 0 < run["stages"]["dhcp"] < run["stages"]["login"] < run["stages"]["rpc"]
    assert run["recovery_s"] > 0
    assert result["without_reset"]["came_up"] is False
    assert any("failed" in line or "error" in line for line in result["without_reset"]["console"])
    if "--prewarm" in options:
        assert run["start_s"] < run["stages"]["login"]


@pytest.mark.lab
def test_interrupted_leaves_nothing(tmp_path: Path) -> None:
    before = set(leftovers())
    with subprocess.Popen(MAIN, stdout=subprocess.PIPE, text=True) as lab:
        assert lab.stdout
        for line in lab.stdout:
            if "run 1: start()" in line:
                break
        assert set(leftovers()) - before
        time.sleep(1)
        lab.send_signal(signal.SIGINT)
        said = lab.stdout.read()
        assert lab.wait(60) == 1
    assert "interrupted" in said
    assert set(leftovers()) - before == set()


@pytest.mark.lab
def test_killed_then_removed() -> None:
    before = set(leftovers())
    with subprocess.Popen(MAIN, stdout=subprocess.PIPE, text=True) as lab:
        assert lab.stdout
        for line in lab.stdout:
            if " power " in line:
                break
        lab.kill()
    (name,) = set(leftovers()) - before
    remove(name)
    assert set(leftovers()) - before == set()


def test_help_and_bad_options(tmp_path: Path) -> None:
    done = subprocess.run([*MAIN, "--help"], capture_output=True, text=True, check=True)
    assert "--firmware" in done.stdout
    for options in (["--firmware", "floppy"], ["--runs", "0"], ["--json", "/nowhere/x.json"]):
        done = subprocess.run([*MAIN, *options], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr
