from __future__ import annotations

import csv
import io

from rich.console import Console

from cuckoo_zfsiscsi.measure.recovery import Measurement, Recovery
from cuckoo_zfsiscsi.measure.show import paper_table, recovery_table, to_csv

RUNS = [
    Recovery(1, 44.04, 45.5, 2, {"fence": 0.1, "swap": 0.25, "dhcp": 2.5, "rpc": 40.0}),
    Recovery(2, 47.0),
]


def measured(*runs: Recovery) -> Measurement:
    return Measurement("pc1", "10.99.0.11", "warm", "win10", 2, list(runs))


def printed(measured: Measurement) -> str:
    console = Console(file=io.StringIO(), width=80, highlight=False)
    console.print(recovery_table(measured), paper_table())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_table() -> None:
    text = printed(measured(*RUNS))
    rows = [line.split() for line in text.splitlines() if line.strip()]
    assert ["1", "44.0", "45.5", "2", "0.35", "2.5", "-", "-", "40.0", "-"] in rows
    assert ["2", "47.0", "-", "-", "-", "-", "-", "-", "-", "-"] in rows
    assert ["mean", "45.5", "45.5"] in rows
    assert ["spread", "3.0"] in rows
    assert "FOG 1.2             646    625    611  627.3" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_no_run() -> None:
    assert "mean" in printed(measured())  # the paper's


def test_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(measured(*RUNS)))))
    assert rows[0]["recovery_s"] == "44.040"
    assert rows[0]["swap"] == "0.250"
    assert rows[0]["agent"] == ""
    assert (rows[1]["start_s"], rows[1]["generation"], rows[1]["rpc"]) == ("", "", "")
    assert [row["run"] for row in rows] == ["1", "2"]
