from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cuckoo_zfsiscsi.compare.plan import Cell, Plan
from cuckoo_zfsiscsi.compare.result import Entry, Result, Row, Run
from cuckoo_zfsiscsi.compare.verdict import State, Verdict

C, T, R, N, F = State


@pytest.fixture
def plan(write_plan: Callable[..., Plan]) -> Plan:
    return write_plan(3)


def entry(plan: Plan, number: int, *states: State | None, why: str = "w") -> Entry:
    env = plan.environments[number]
    runs = [
        Run(Cell("s", env.name, n), Verdict(state, why) if state else None, 7, "pc1")
        for n, state in enumerate(states, 1)
    ]
    return Entry(env, tuple(runs))


@pytest.mark.parametrize(
    ("states", "text", "ran"),
    [
        ((C, C, C), "yes, contacted 3/3", True),
        ((R, C, F), "yes, contacted 1/2", True),
        ((T, R, N), "no, tried 1/3", False),
        ((R, R, F), "no, ran 2/2", False),
        ((N, F, F), "no, did not run 1/1", False),
        ((F, F, F), "infrastructure failure", None),
        ((R, None, None), "pending", None),
        ((C, None, None), "yes, contacted 1/1", True),
    ],
)
def test_entry(plan: Plan, states: tuple[State | None], text: str, ran: bool | None) -> None:
    one = entry(plan, 0, *states)
    assert (one.text, one.ran) == (text, ran)


@pytest.mark.parametrize(
    ("virtual", "physical", "evasive"),
    [
        (R, C, True),
        (N, C, True),
        (C, C, False),
        (R, R, False),
        (C, R, False),
        (F, C, None),
        (None, C, None),
        (R, F, None),
        (F, R, False),
        (C, F, None),
    ],
)
def test_evasive(
    plan: Plan, virtual: State | None, physical: State | None, evasive: bool | None
) -> None:
    row = Row("s", "0", (entry(plan, 0, virtual), entry(plan, 1, physical)))
    assert row.evasive is evasive


def test_evasive_needs_both_kinds(plan: Plan) -> None:
    assert Row("s", "0", (entry(plan, 1, C),)).evasive is None
    assert Row("s", "0", (entry(plan, 0, R),)).evasive is None


def test_failures_say_why(plan: Plan) -> None:
    rows = (Row("s", "0", (entry(plan, 0, F, C, why="no agent"), entry(plan, 1, None))),)
    assert Result(plan, rows).failures() == ["s in kvm, 1: no agent"]


def test_all_forms(plan: Plan, tmp_path: Path) -> None:
    evil = '=cmd|"<script>'
    rows = (
        Row("ursnif", "ab" * 32, (entry(plan, 0, R), entry(plan, 1, C, why=evil))),
        Row("trickbot", "cd" * 32, (entry(plan, 0, C), entry(plan, 1, C))),
    )
    result = Result(plan, rows)
    assert result.sums == ["1 of 2", "2 of 2"]
    console = Console(file=io.StringIO(), width=100)
    console.print(result.table())
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "yes: ran on physical only" in text
    assert "no, ran 1/1" in text
    page = result.html()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "No baseline was subtracted" not in page
    assert "No baseline was subtracted" in Result(replace(plan, baseline=None), rows).html()
    lines = list(csv.DictReader(io.StringIO(result.csv())))
    assert [line["state"] for line in lines] == ["ran", "contacted", "contacted", "contacted"]
    assert lines[1]["why"] == f"'{evil}"
    document = result.document()
    assert document["samples"][0]["environments"]["metal"]["runs"][0]["why"] == evil
    assert document["samples"][0]["evasive"] is True
