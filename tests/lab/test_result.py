from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cuckoo_zfsiscsi.lab.result import Result
from cuckoo_zfsiscsi.lab.routes.route import Route
from cuckoo_zfsiscsi.lab.routes.traffic import Seen
from cuckoo_zfsiscsi.lab.runs import Reboot, Run, WithoutReset, failed_boots
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
    assert rows[0] == ["1", "10.0", "12.0", "clean", "-", "1", "0.30", "2.5", "-", "14.0", "16.0"]


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


CALLS: dict[Route, tuple[Seen, str]] = {
    "internet": (Seen(c2=True, left=("203.0.113.10",)), "yes"),
    "inetsim": (Seen(inetsim=True), "inetsim"),
    "none": (Seen(), "no"),
    "drop": (Seen(), "no"),
}
"""What must be seen, and what the table says of it."""


def routed(route: Route, capture: Path = Path("/c.pcap")) -> Result:
    seen, _ = CALLS[route]
    runs = [run(1, seen=seen), run(2, seen=seen)]
    again = Reboot(same_disk=True, generation=1, seconds=20.0, seen=seen)
    total = replace(seen, iscsi=7)
    return replace(
        passing(), runs=runs, route=route, reboot_in_run=again, total=total, capture=capture
    )


@pytest.mark.parametrize("route", CALLS)
def test_a_route(route: Route, tmp_path: Path) -> None:
    capture = tmp_path / "a port.pcap"
    result = routed(route, capture)
    assert result.faults == []
    document = result.document()
    assert (document["route"], document["capture"]) == (route, str(capture))
    assert document["total"]["iscsi_to_gateway"] == 0
    assert document["reboot_in_run"]["same_disk"] is True
    text = printed(result)
    assert "…" not in text
    assert max(map(len, text.split("To verify")[0].splitlines())) <= 90
    assert f"route {route}" in text
    rows = [line.split() for line in text.split("\n") if line.strip()[:1].isdigit()]
    assert rows[0][4] == CALLS[route][1]
    assert "A reboot within run 1: the same disk after 20.0 s, generation 1." in text
    assert "iSCSI to the gateway (0 of 7 packets)" in text
    assert text.count(f"  tcpdump -nr '{capture}'") == 2


@pytest.mark.parametrize(
    ("route", "change", "fault"),
    [
        ("none", {"runs": [run(1), run(2)]}, "run 1: not shown whom the sample reaches"),
        ("internet", {"runs": [run(1, seen=Seen())] * 2}, "nobody answered the sample, not C2"),
        ("inetsim", {"runs": [run(1, seen=Seen(c2=True))] * 2}, "C2 answered the sample, not INet"),
        ("none", {"runs": [run(1, seen=Seen(c2=True))] * 2}, "route none: C2 answered the sample,"),
        ("none", {"total": Seen(left=("1.2.3.4",))}, "packets left for the internet, to 1.2.3.4"),
        ("internet", {"total": Seen(forbidden=("a sibling",))}, "a sibling was reached"),
        ("drop", {"total": Seen(iscsi_to_gateway=2)}, "2 iSCSI packets were sent to the gateway"),
        ("none", {"total": None}, "the captures were not looked at"),
        ("internet", {"reboot_in_run": None}, "not shown what a reboot within a run does"),
        (
            "none",
            {"reboot_in_run": Reboot(False, 2, 20.0, None)},
            "after a reboot within the run the disk was another one",
        ),
        (
            "internet",
            {"reboot_in_run": Reboot(True, 1, 20.0, Seen())},
            "after the reboot within run 1, route internet: nobody answered",
        ),
    ],
)
def test_a_route_that_is_not_as_it_must_be(
    route: Route, change: dict[str, object], fault: str
) -> None:
    result = replace(routed(route), **change)  # type: ignore[arg-type]
    assert any(fault in one for one in result.faults), result.faults
    assert printed(result).rstrip().endswith("FAIL")


def test_a_route_and_resets_at_each_boot() -> None:
    pressed = {"reset_on": "boot", "without_reset": None, "reboot": run(3), "after": run(4)}
    result = replace(routed("none"), reboot_in_run=None, **pressed)  # type: ignore[arg-type]
    assert result.faults == []


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
