"""Matrices of tests: the gate plays a few cells of each, `scripts/test --all` plays every one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest
from _pytest.mark import ParameterSet

T = TypeVar("T")


def matrix(
    cells: Iterable[T], gate: Callable[[T], bool], name: Callable[[T], str] = str
) -> list[ParameterSet]:
    """Return the parameters of a test for every cell.

    Args:
        cells: each is one parameter, or a tuple of several.
        gate: whether the gate plays it. It must play one at least.
        name: of a cell.
    """
    cells = list(cells)
    assert any(gate(cell) for cell in cells), "the gate plays none of them"
    made = []
    for cell in cells:
        values: tuple[Any, ...] = cell if isinstance(cell, tuple) else (cell,)
        marks = () if gate(cell) else pytest.mark.matrix
        made.append(pytest.param(*values, marks=marks, id=name(cell)))
    return made
