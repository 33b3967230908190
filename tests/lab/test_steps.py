from __future__ import annotations

import json
import re
import threading
from functools import partial
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.lab import steps as steps_module
from cuckoo_zfsiscsi.lab.steps import RECORD, Count, Steps, duration, files
from tests.waiting import HANG, wait

NAMES = ("fetching", "compiling")


def test_steps_say_where_they_are_and_what_they_took_before(tmp_path: Path) -> None:
    said: list[str] = []
    steps = Steps("building x", NAMES, said.append, tmp_path)
    for name in NAMES:
        with steps.step(name):
            pass
    steps.end()
    assert said == [
        "building x, 2 steps: never built here, so nobody knows how long it takes",
        "1/2, 0 s: fetching",
        "2/2, 0 s: compiling",
        "building x: built in 0 s",
    ]
    record = tmp_path / RECORD
    known = json.loads(record.read_text())
    assert set(known) == set(NAMES)
    known["compiling"]["seconds"] = 754.6
    record.write_text(json.dumps(known))
    said.clear()
    with Steps("building x", NAMES, said.append, tmp_path).step("compiling"):
        pass
    assert said == [
        "building x, 2 steps: took 12 min 35 s here the last time",
        "2/2, 0 s: compiling (12 min 35 s the last time)",
    ]


def test_a_step_that_lasts_shows_what_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_module, "EVERY", 0.01)
    said: list[str] = []
    made = tmp_path / "made"
    made.mkdir()
    count = Count(lambda: files(made, ".o"), "objects", about=4)

    def is_shown(words: str) -> bool:
        return words in said[-1]

    def build() -> None:
        steps = Steps("building x", NAMES, said.append, tmp_path)
        with steps.step("compiling", count):
            for number in (1, 2, 3):
                (made / f"{number}.o").touch()
                (made / f"{number}.c").touch()
                shown = f", {number} of"
                wait(partial(is_shown, shown), what=shown, seen=lambda: said)

    build()
    assert re.fullmatch(r"2/2, \d+ s: compiling, 3 of about 4 objects", said[-1])
    for path in made.iterdir():
        path.unlink()
    build()
    assert re.fullmatch(r"2/2, \d+ s: compiling, 3 of 3 objects", said[-1])


def test_nothing_to_count_and_a_step_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_module, "EVERY", 0.01)
    told = threading.Event()

    def say(line: str) -> None:
        if line == "1/2, 0 s: fetching":
            told.set()

    steps = Steps("building x", NAMES, say, tmp_path)
    count = Count(lambda: (tmp_path / "gone").stat().st_size, "bytes")
    with pytest.raises(ValueError, match="no mirror"), steps.step("fetching", count):  # noqa: PT012
        told.clear()
        assert told.wait(HANG), "it goes on telling"
        raise ValueError("no mirror")
    assert not (tmp_path / RECORD).exists(), "what failed is no measure"


@pytest.mark.parametrize("content", ["", "[]", '{"compiling": 5}', '{"compiling": {"count": 1}}'])
def test_a_record_that_can_not_be_used(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    said: list[str] = []
    with Steps("building x", NAMES, said.append, tmp_path).step("compiling"):
        pass
    assert said[-1] == "2/2, 0 s: compiling"
    assert set(json.loads((tmp_path / RECORD).read_text())) == {"compiling"}


def test_a_record_that_can_not_be_written(tmp_path: Path) -> None:
    with Steps("building x", NAMES, print, tmp_path / "gone").step("compiling"):
        pass


def test_a_step_that_was_not_announced(tmp_path: Path) -> None:
    steps = Steps("building x", NAMES, print, tmp_path)
    with pytest.raises(ValueError, match="not in list"), steps.step("linking"):
        pytest.fail("it is no step")


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0.4, 59.4, 59.6, 754.0)] == [
        "0 s", "59 s", "1 min 00 s", "12 min 34 s",
    ]  # fmt: skip
