from __future__ import annotations

import pytest

from bench import startup


def test_each_command_is_measured() -> None:
    result = startup.measure(1)
    assert list(result) == list(startup.COMMANDS)
    assert all(seconds > 0 for (seconds,) in result.values())


def test_a_command_that_fails_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="--nope: status 2"):
        startup.cost(["--nope"])
