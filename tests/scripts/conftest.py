from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts.tree import PYTHON, Tree


@pytest.fixture
def fresh(tmp_path: Path) -> Tree:
    """Make a checkout on a machine where nothing is installed yet."""
    at = tmp_path / "tree"
    at.mkdir()
    return Tree(at)


@pytest.fixture
def tree(fresh: Tree) -> Tree:
    """Add an environment for Python in which nothing is installed."""
    fresh.pretend("python", PYTHON, ".venv/bin")
    return fresh
