from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cuckoo_zfsiscsi.lab.result import Result
from cuckoo_zfsiscsi.lab.runs import Run, WithoutReset, failed_boots
from cuckoo_zfsiscsi.lab.show import Progress, print_result

STAGES = {"fence": 0.1, "swap": 0.2, "dhcp": 2.5, "rpc": 14.0, "agent": 16.0}
SEEN = WithoutReset(False, 33.0, ["Boot from SAN device 0x80 failed: [Errno]"])


def run(number: int, **other: object) -> Run:
    base = Run(number, 10.0 * number, 12.0, dict(STAGES), number, prewarmed=False, clean=True)
    return replace(base, **other)  # type: ignore[arg-type]


def passing() -> Result:
    return Result("bios", "file", "ipmi", False, 2, [run(1), run(2)], SEEN, run(3))


def printed(result: Result) -> str:
    console = Console(file=io.StringIO(), width=80, soft_wrap=True, highlight=False)
    print_result(console, result)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_pass(tmp_path: Path) -> None:
    result = passing()
    assert result.faults == []
    result.write(tmp_path / "json")
    document = json.loads((tmp_path / "json").read_text())
    assert document["result"] == "pass"
    assert [one["recovery_s"] for one in document["runs"]] == [10.0, 20.0]
    assert document["mean_recovery_s"] == 15.0
    assert document["without_reset"]["came_up"] is False
    text = printed(result)
    assert text.rstrip().endswith("PASS")
    assert "…" not in text
    assert "BIOS" in text
    assert "other hardware" in text
    assert " ZFS + iSCSI          45     42     45   44.0" in text
    assert "Boot from SAN device 0x80 failed: [Errno]" in text
    rows = [line.split() for line in text.split("\n") if line.strip()[:1].isdigit()]
    assert rows[0] == ["1", "10.0", "12.0", "clean", "1", "0.30", "2.5", "-", "-", "14.0", "16.0"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"error": "host1 is [gone]"}, "host1 is [gone]"),
        ({"runs": [run(1)]}, "1 of 2 runs"),
        ({"after": None}, "and a last look"),
        ({"runs": [run(1), run(2, clean=False, detail="/infected is there")]}, "run 2: /infected"),
        ({"after": run(3, clean=False, detail="bad")}, "run 3: bad"),
        ({"runs": [run(1), run(2, generation=1)]}, "a disk was used again"),
        ({"without_reset": None}, "not shown what happens without the reset"),
        ({"without_reset": replace(SEEN, came_up=True)}, "came up without the reset"),
    ],
)
def test_fail(change: dict[str, object], fault: str) -> None:
    result = replace(passing(), **change)  # type: ignore[arg-type]
    assert any(fault in one for one in result.faults)
    assert result.document()["result"] == "fail"
    text = printed(result)
    assert fault in text
    assert text.rstrip().endswith("FAIL")


def test_a_mere_reboot() -> None:
    pressed = run(3, recovery_s=12.5)
    change = {"reset_on": "boot", "without_reset": None, "after": run(4)}
    result = replace(passing(), reboot=pressed, **change)  # type: ignore[arg-type]
    assert result.faults == []
    assert result.document()["reboot"]["generation"] == 3
    text = printed(result)
    assert "A mere reboot of the infected host: clean after 12.5 s, generation 3." in text
    assert "reset on boot" in text
    result.reboot = replace(pressed, clean=False, detail="/infected is there")
    assert result.faults == ["run 3: /infected is there"]
    assert "DIRTY" in printed(result)
    result.reboot = None
    assert result.faults == ["not shown what a mere reboot does"]


def test_nothing_at_all() -> None:
    result = Result("uefi", "zfs", "ipmi", True, 1, error="no DHCP")
    assert result.mean_s is None
    assert printed(result) == "no DHCP\nFAIL\n"
    assert result.document()["without_reset"] is None


def test_prewarmed_and_not_clean() -> None:
    text = printed(replace(passing(), prewarm=True, runs=[run(1, clean=False), run(2)]))
    assert "BIOS, ipmi, store file, prewarmed" in text
    assert "dirty" in text


def test_progress() -> None:
    console = Console(file=io.StringIO(), width=80, highlight=False)
    tell = Progress(console)
    tell.end()
    tell.say("run 1")
    tell.stage("dhcp", 2.51)
    tell.say("run 2")
    tell.end()
    tell.end()
    assert isinstance(console.file, io.StringIO)
    first, second = console.file.getvalue().rstrip("\n").split("\n")
    assert first.split() == ["0.0", "run", "1", "dhcp", "2.5"]
    assert second.split() == ["0.0", "run", "2"]


def test_what_a_console_says_of_a_disk() -> None:
    text = "iPXE\r\nBoot from SAN device 0x80 failed: x\r\npc1 does not boot, next try in 1 s\rok"
    assert failed_boots(text) == [
        "Boot from SAN device 0x80 failed: x",
        "pc1 does not boot, next try in 1 s",
    ]
