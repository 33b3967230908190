"""Carries out a plan: submits, follows, reads reports. Each step is in the journal before the next.

Before a sample is submitted the journal says so, with a mark that goes to CAPE in the task's
`custom` field. Whoever goes on after an interruption asks CAPE for that mark first: so nothing is
submitted twice, and nothing is lost.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cuckoo_zfsiscsi.clock import SYSTEM, Clock
from cuckoo_zfsiscsi.compare.journal import Journal
from cuckoo_zfsiscsi.compare.plan import Cell, Environment, Plan
from cuckoo_zfsiscsi.compare.rest import LostError, RefusedError, Rest
from cuckoo_zfsiscsi.compare.verdict import Facts, State, decide, machines_of, read_report
from cuckoo_zfsiscsi.errors import CompareError

GRACE = 180.0
"""Seconds after which a request that CAPE got has made its task, or never will."""
PAUSE = 10.0
"""Seconds between two rounds."""
REPORTED = "reported"
FAILED = ("failed_analysis", "failed_processing", "failed_reporting", "banned")
"""What CAPE calls a task that has no report, and gets none."""

Tell = Callable[[str], None]
Json = dict[str, Any]


@dataclass
class _Progress:
    """What the journal says of one cell."""

    mark: str = ""
    submitting_since: float | None = None
    """Seconds since the epoch; None: not begun."""
    task: int | None = None
    submitted: float = 0.0
    facts: Facts | None = None
    machine: str = ""


@dataclass
class Comparison:
    """A plan with all that is known of it.

    Args:
        plan: what to do.
        journal: what was done.
        servers: a client for each server's URL.
        tell: told what happens.
        clock: that its pauses go by.
        now: tells the seconds since the epoch; the journal has them, other processes go on by them.
    """

    plan: Plan
    journal: Journal
    servers: Mapping[str, Rest]
    tell: Tell
    clock: Clock = SYSTEM
    now: Callable[[], float] = time.time
    _cells: dict[str, _Progress] = field(default_factory=dict)
    _allowed: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._cells = {
            cell.key: _Progress() for env in self.plan.environments for cell in self.plan.cells(env)
        }
        for step in self.journal.steps:
            self._apply(step)

    def facts(self, cell: Cell) -> Facts | None:
        """Return what is known of a cell; None: it has not ended."""
        return self._cells[cell.key].facts

    def task(self, cell: Cell) -> int | None:
        """Return the id of a cell's task; None: it was not submitted."""
        return self._cells[cell.key].task

    def machine(self, cell: Cell) -> str:
        """Return the label of the machine that a cell ran on; "": not known."""
        return self._cells[cell.key].machine

    def again(self) -> int:
        """Forget the cells of which nothing is known, so that run() repeats them.

        Returns:
            how many.
        """
        failed = [
            key
            for key, one in self._cells.items()
            if one.facts and decide(one.facts, ()).state is State.FAILURE
        ]
        for key in failed:
            self._note("again", key)
        return len(failed)

    def run(self) -> None:
        """Do what is left to be done.

        Raises:
            CompareError: it can't go on for now; nothing of what was done is lost.
        """
        for env in self.plan.environments:
            self._allowed[env.name] = self._machines(env)
        while left := [env for env in self.plan.environments if self._open(env)]:
            for env in left:
                self._round(env)
            if any(self._open(env) for env in self.plan.environments):
                self.clock.sleep(PAUSE)

    def _machines(self, env: Environment) -> set[str]:
        """Return the labels that may run an environment's tasks."""
        if env.machine:
            return {env.machine}
        try:
            machines = self.servers[env.server].machines()
        except RefusedError as error:
            raise CompareError(
                f"[{env.name}] tags can't be looked up: {error.what}",
                fix="[machinelist] enabled = yes in its api.conf, or machine = LABEL",
            ) from None
        wanted = set(env.tags)
        found = {str(one.get("label")) for one in machines if wanted <= _names(one.get("tags"))}
        if not found:
            raise CompareError(
                f"[{env.name}] {env.server} has no machine with the tags {', '.join(env.tags)}",
                fix="tags = as CAPE's machines have them",
            )
        return found

    def _open(self, env: Environment) -> list[Cell]:
        return [cell for cell in self.plan.cells(env) if self._cells[cell.key].facts is None]

    def _round(self, env: Environment) -> None:
        cells = self._open(env)
        under_way = [cell for cell in cells if self._cells[cell.key].submitting_since is not None]
        for cell in under_way:
            if self._cells[cell.key].task is None:
                self._look_for(env, cell)
            else:
                self._follow(env, cell)
        # The others go on only when these have ended: the same samples run at the same time
        free = env.at_once - sum(self._cells[cell.key].facts is None for cell in under_way)
        fresh = [cell for cell in cells if self._cells[cell.key].submitting_since is None]
        for cell in fresh[: max(0, free)]:
            self._submit(env, cell)

    def _look_for(self, env: Environment, cell: Cell) -> None:
        """Find out whether a submission that was interrupted made a task."""
        progress = self._cells[cell.key]
        sample = self.plan.files[cell.sample]
        task = self.servers[env.server].find(sample.sha256, progress.mark)
        if task is not None:
            self._note("submitted", cell.key, task=task, at=self.now())
            self.tell(f"{_name(cell)}: task {task} was made before the interruption")
        elif self.now() > (progress.submitting_since or 0.0) + GRACE:
            self._submit(env, cell)
        else:
            self.tell(f"{_name(cell)}: waiting, CAPE may be making its task yet")

    def _submit(self, env: Environment, cell: Cell) -> None:
        mark = self._cells[cell.key].mark or f"zfsiscsi-compare-{secrets.token_hex(12)}"
        self._note("submitting", cell.key, mark=mark, at=self.now())
        form = {**self.plan.options, "custom": mark}
        form |= {"machine": env.machine} if env.machine else {"tags": ",".join(env.tags)}
        try:
            task = self.servers[env.server].submit(self.plan.files[cell.sample].path, form)
        except RefusedError as error:
            self._end(cell, Facts(failure=error.what))
        except LostError as error:
            self.tell(f"{_name(cell)}: {error.what}; asking whether it made a task")
        else:
            self._note("submitted", cell.key, task=task, at=self.now())
            self.tell(f"{_name(cell)}: task {task}")

    def _follow(self, env: Environment, cell: Cell) -> None:
        progress, server = self._cells[cell.key], self.servers[env.server]
        task = progress.task or 0
        try:
            status = server.status(task)
            if status in FAILED:
                errors = server.view(task).get("errors")
                why = "; ".join(map(str, errors)) if isinstance(errors, list) else ""
                self._end(cell, Facts(failure=f"{status}: {why[:300] or 'CAPE does not say why'}"))
            elif status == REPORTED:
                self._read(env, cell, task)
            elif self.now() > progress.submitted + self.plan.patience:
                self._end(cell, Facts(failure=f"{status} after {self.plan.patience:.0f} s"))
        except RefusedError as error:
            self._end(cell, Facts(failure=error.what))

    def _read(self, env: Environment, cell: Cell, task: int) -> None:
        server = self.servers[env.server]
        view = server.view(task)
        report = server.report(task)
        machines = machines_of(view, report)
        machine = ", ".join(sorted(machines))
        if machines and machines <= self._allowed[env.name]:
            self._end(cell, read_report(report), machine)
        else:
            wanted = env.machine or f"one with the tags {', '.join(env.tags)}"
            ran = machine or "a machine that CAPE does not name"
            self._end(cell, Facts(failure=f"ran on {ran}, not on {wanted}"), machine)

    def _end(self, cell: Cell, facts: Facts, machine: str = "") -> None:
        self._note("ended", cell.key, facts=facts.document(), machine=machine)
        done = sum(one.facts is not None for one in self._cells.values())
        said = facts.failure or "reported"
        self.tell(f"{_name(cell)}: {said} ({done} of {len(self._cells)})")

    def _note(self, step: str, cell: str, **what: Any) -> None:  # noqa: ANN401 - JSON
        self.journal.write(step, cell=cell, **what)
        self._apply(self.journal.steps[-1])

    def _apply(self, step: Json) -> None:
        progress = self._cells.get(str(step.get("cell")))
        if progress is None:
            return
        match step["step"]:
            case "submitting":
                progress.mark, progress.submitting_since = step["mark"], step["at"]
            case "submitted":
                progress.task, progress.submitted = step["task"], step["at"]
            case "ended":
                progress.facts, progress.machine = Facts.parse(step["facts"]), step["machine"]
            case "again":
                self._cells[step["cell"]] = _Progress()


def _name(cell: Cell) -> str:
    return f"{cell.sample} in {cell.environment}, {cell.repetition}"


def _names(tags: object) -> set[str]:
    """Return the names of CAPE's tags: a list of names, or of objects with a name."""
    found = tags if isinstance(tags, list) else []
    return {str(tag.get("name") if isinstance(tag, dict) else tag) for tag in found}
