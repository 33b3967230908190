"""The table of attacks, from the docstrings of the tests and from what they have measured.

A test is an attack if its docstring has a line that begins with `Before:` and one with `Now:`, in
whichever folder it is: what needs ZFS or LIO is in tests/zfs.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
BEGIN, END = ".. The table of attacks begins:", ".. The table of attacks ends."
"""Lines of docs/security.rst; what is between them is made."""
WIDTH = 116
"""Columns of that file."""


@dataclass(frozen=True)
class Attack:
    """One attack, as its test tells of it."""

    file: str
    """Of the test, beside `tests`."""
    theme: str
    """What the file is about."""
    test: str
    what: str
    before: str
    now: str


@dataclass
class Seen:
    """Plugin of pytest: how each test ended, and what it has measured (record_property)."""

    ended: dict[str, str] = field(default_factory=dict)
    measured: dict[str, list[str]] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of a test, by its file and name; of many cells the worst counts."""
        file, _, test = report.nodeid.split("[")[0].partition("::")
        name = f"{file.removeprefix('tests/')}::{test}"
        if report.failed or report.skipped:
            self.ended[name] = report.outcome.upper()
        elif report.when == "call":
            self.ended.setdefault(name, report.outcome)
            found = [f"{key} {value}" for key, value in report.user_properties]
            self.measured.setdefault(name, []).extend(found)


def parse(text: str) -> tuple[str, str, str] | None:
    """Return what a docstring says of an attack, of before and of now; None if it is of none."""
    parts = re.split(r"\n\s*\n|\n\s*(?=(?:Before|Now): )", text.strip())
    parts = [" ".join(part.split()) for part in parts]
    before = [part for part in parts if part.startswith("Before: ")]
    now = [part for part in parts if part.startswith("Now: ")]
    if not before or not now:
        return None
    return parts[0], before[0].removeprefix("Before: "), now[0].removeprefix("Now: ")


def find(tests: Path = TESTS) -> list[Attack]:
    """Return every attack, by file."""
    found = []
    for path in sorted(tests.rglob("test_*.py")):
        source = path.read_text()
        if "Before: " not in source:
            continue
        tree = ast.parse(source)
        theme = (ast.get_docstring(tree) or "").split("\n")[0].rstrip(".")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                told = parse(ast.get_docstring(node) or "")
                if told:
                    file = str(path.relative_to(tests))
                    found.append(Attack(file, theme, node.name, *told))
    return found


def render(attacks: Iterable[Attack]) -> str:
    """Return the table as docs/security.rst has it."""
    lines = []
    for (file, theme), group in groupby(attacks, lambda one: (one.file, one.theme)):
        head = f"{theme} (``tests/{file}``)"
        lines += ["", *_wrapped(head), ""]
        lines += [".. list-table::", "   :header-rows: 1", "   :widths: 34 33 33", ""]
        for row in (("attack", "before", "now"), *((a.what, a.before, a.now) for a in group)):
            for number, cell in enumerate(row):
                first = "   * - " if number == 0 else "     - "
                lines += _wrapped(_escaped(cell), first, 7 * " ")
    return "\n".join([BEGIN, *lines, "", END])


def update(document: str, attacks: Iterable[Attack]) -> str:
    """Return a document with the table as it is now."""
    begin, end = document.index(BEGIN), document.index(END) + len(END)
    return document[:begin] + render(attacks) + document[end:]


def _escaped(text: str) -> str:
    """Return text that means itself in reStructuredText."""
    parts = re.split(r"(``.*?``)", text)
    parts[::2] = [re.sub(r"[\\*|`]|_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    return "".join(parts)


def _wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def show(attacks: Sequence[Attack], seen: Seen) -> str:
    """Return the table of what was run, for a terminal."""
    lines = [f"{'result':8} {'attack':70}  seen"]
    for attack in attacks:
        name = f"{attack.file}::{attack.test}"
        measured = "; ".join(dict.fromkeys(seen.measured.get(name, [])))
        what = textwrap.shorten(attack.what, 70, placeholder="...")
        lines.append(f"{seen.ended.get(name, 'not run'):8} {what:70}  {measured}".rstrip())
    return "\n".join(lines)
