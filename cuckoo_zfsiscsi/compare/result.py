"""The table of a comparison: the paper's table 2, with the states behind its yes and no."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from rich.table import Table

from cuckoo_zfsiscsi.compare.plan import BASELINE, Cell, Environment, Plan
from cuckoo_zfsiscsi.compare.run import Comparison
from cuckoo_zfsiscsi.compare.verdict import Facts, State, Verdict, decide
from cuckoo_zfsiscsi.measure.show import make_table

Json = dict[str, Any]
PENDING = "pending"
COLUMNS = (
    "sample", "sha256", "environment", "kind", "run", "state", "why", "task", "machine", "evasive",
)  # fmt: skip
"""Of the CSV file."""
ORDER = [state for state in State if state is not State.FAILURE]
"""From the most that a run can prove to the least."""
EVASIVE = {True: "yes: ran on physical only", False: "no", None: "unknown"}
METHOD = (
    "yes: contacted, the paper's rule: data was exchanged with a server that the benign baseline "
    "did not talk to in the same environment. tried: a name or server was asked for, in vain. "
    "Without a baseline the guest's own traffic counts. Of several runs the best one decides; "
    "infrastructure failures say nothing of a sample, and count for nothing."
)


@dataclass(frozen=True)
class Run:
    """One run of a sample."""

    cell: Cell
    verdict: Verdict | None
    """None: it has not ended."""
    task: int | None
    machine: str


@dataclass(frozen=True)
class Entry:
    """One sample in one environment."""

    environment: Environment
    runs: tuple[Run, ...]

    @property
    def state(self) -> State | None:
        """What its best run proves; None: some run has not ended, and none contacted its C2."""
        states = [run.verdict.state if run.verdict else None for run in self.runs]
        if State.CONTACTED in states:
            return State.CONTACTED
        if None in states:
            return None
        return next((state for state in ORDER if state in states), State.FAILURE)

    @property
    def ran(self) -> bool | None:
        """The paper's yes and no; None: not known."""
        return None if self.state in (None, State.FAILURE) else self.state is State.CONTACTED

    @property
    def text(self) -> str:
        """Return it for people: `yes`, or `no, tried 2/3`: in so many of the valid runs."""
        state = self.state
        if state is None or state is State.FAILURE:
            return state.value if state else PENDING
        valid = [run for run in self.runs if run.verdict and run.verdict.state is not State.FAILURE]
        same = sum(run.verdict is not None and run.verdict.state is state for run in valid)
        return f"{'yes' if self.ran else 'no'}, {state.value} {same}/{len(valid)}"


@dataclass(frozen=True)
class Row:
    """One sample."""

    sample: str
    sha256: str
    entries: tuple[Entry, ...]

    @property
    def evasive(self) -> bool | None:
        """Whether it ran on physical machines and on no virtual one; None: not known."""
        physical = [one.ran for one in self.entries if one.environment.physical]
        virtual = [one.ran for one in self.entries if not one.environment.physical]
        if not physical or not virtual or (True not in physical and None in physical):
            return None
        if True in virtual or True not in physical:
            return False
        return None if None in virtual else True


@dataclass(frozen=True)
class Result:
    """All rows."""

    plan: Plan
    rows: tuple[Row, ...]

    @property
    def sums(self) -> list[str]:
        """For each environment: in so many samples of those of which it is known."""
        columns = zip(*(row.entries for row in self.rows), strict=True)
        ran = [[entry.ran for entry in column] for column in columns]
        return [f"{one.count(True)} of {len(one) - one.count(None)}" for one in ran]

    def table(self) -> Table:
        """Return it for a terminal."""
        table = make_table("Did the sample run?")
        for column in ("sample", *(env.name for env in self.plan.environments), "evasive"):
            table.add_column(column, overflow="fold")
        for row in self.rows:
            cells = (entry.text for entry in row.entries)
            table.add_row(row.sample, *cells, EVASIVE[row.evasive])
        table.add_section()
        table.add_row("contacted", *self.sums)
        return table

    def failures(self) -> list[str]:
        """Return a line for each run of which nothing is known, and why."""
        runs = (run for row in self.rows for entry in row.entries for run in entry.runs)
        return [
            f"{run.cell.sample} in {run.cell.environment}, {run.cell.repetition}: {run.verdict.why}"
            for run in runs
            if run.verdict and run.verdict.state is State.FAILURE
        ]

    def csv(self) -> str:
        """Return one line per run."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(COLUMNS)
        for row in self.rows:
            for entry in row.entries:
                kind = "physical" if entry.environment.physical else "virtual"
                for run in entry.runs:
                    state, why = _of(run)
                    lines.writerow(
                        [
                            row.sample,
                            row.sha256,
                            entry.environment.name,
                            kind,
                            run.cell.repetition,
                            state,
                            _harmless(why),
                            run.task or "",
                            _harmless(run.machine),
                            EVASIVE[row.evasive],
                        ]
                    )
        return text.getvalue()

    def document(self) -> Json:
        """Return the JSON document."""
        return {
            "environments": [
                {"name": env.name, "server": env.server, "physical": env.physical}
                for env in self.plan.environments
            ],
            "options": self.plan.options,
            "baseline": self.plan.baseline.sha256 if self.plan.baseline else None,
            "samples": [
                {
                    "sample": row.sample,
                    "sha256": row.sha256,
                    "evasive": row.evasive,
                    "environments": {
                        entry.environment.name: {
                            "ran": entry.ran,
                            "state": entry.state.value if entry.state else PENDING,
                            "runs": [
                                {
                                    "state": _of(run)[0],
                                    "why": _of(run)[1],
                                    "task": run.task,
                                    "machine": run.machine,
                                }
                                for run in entry.runs
                            ],
                        }
                        for entry in row.entries
                    },
                }
                for row in self.rows
            ],
            "method": METHOD,
        }

    def html(self) -> str:
        """Return a page that needs nothing else."""
        template = Path(__file__).with_name("table.html.j2").read_text()
        # What reports say was chosen by malware: escaped
        page = jinja2.Environment(autoescape=True).from_string(template)
        return page.render(result=self, evasive=EVASIVE, method=METHOD, of=_of) + "\n"


def make_result(comparison: Comparison) -> Result:
    """Judge what is known of a comparison so far."""
    plan = comparison.plan
    usual = {env.name: _baseline(comparison, env) for env in plan.environments}
    rows = []
    for sample in plan.samples:
        entries = []
        for env in plan.environments:
            cells = [cell for cell in plan.cells(env) if cell.sample == sample.name]
            runs = [
                Run(
                    cell,
                    _judge(comparison.facts(cell), usual[env.name]),
                    comparison.task(cell),
                    comparison.machine(cell),
                )
                for cell in cells
            ]
            entries.append(Entry(env, tuple(runs)))
        rows.append(Row(sample.name, sample.sha256, tuple(entries)))
    return Result(plan, tuple(rows))


def _baseline(comparison: Comparison, env: Environment) -> list[Facts | None]:
    """Return what the baseline's runs in an environment did; None for one that has not ended."""
    cells = [cell for cell in comparison.plan.cells(env) if cell.sample == BASELINE]
    return [comparison.facts(cell) for cell in cells]


def _judge(facts: Facts | None, usual: list[Facts | None]) -> Verdict | None:
    """Judge a run; None while it, or its baseline, has not ended."""
    ended = [one for one in usual if one is not None]
    if facts is None or len(ended) < len(usual):
        return None
    valid = [one for one in ended if not one.failure and (one.completed or one.processes)]
    if usual and not valid and not facts.failure:
        return Verdict(State.FAILURE, "the baseline did not run here: nothing to subtract")
    return decide(facts, valid)


def _of(run: Run) -> tuple[str, str]:
    return (run.verdict.state.value, run.verdict.why) if run.verdict else (PENDING, "")


def _harmless(text: str) -> str:
    """Keep a spreadsheet from taking text for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
