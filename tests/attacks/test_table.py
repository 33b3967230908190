"""The table of attacks in docs/security.rst is that of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks import table

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.rst"


def test_the_document_is_up_to_date() -> None:
    text = DOCUMENT.read_text()
    fix = "fix: python -m bench.attacks --document"
    assert text == table.update(text, table.find()), fix


def test_what_a_docstring_says() -> None:
    text = """Half a login, and
        nothing else.

        Before: nobody
        logged in.
        Now: everybody does.
        """
    assert table.parse(text) == (
        "Half a login, and nothing else.",
        "nobody logged in.",
        "everybody does.",
    )
    assert table.parse("Something else. Before: and Now: are words.") is None


def test_what_was_seen() -> None:
    seen, attack = (
        table.Seen(),
        table.Attack("attacks/test_x.py", "X", "test_y", "Do y.", "bad", "good"),
    )
    for when in ("setup", "call"):
        seen.pytest_runtest_logreport(
            pytest.TestReport(
                "tests/attacks/test_x.py::test_y[a]", ("", 0, ""), {}, "passed", None,
                when, user_properties=[("late, s", 0.5)] if when == "call" else [],
            )
        )  # fmt: skip
    assert "passed   Do y." in table.show([attack], seen)
    assert table.show([attack], seen).endswith("late, s 0.5")
    assert "not run" in table.show([attack], table.Seen())
