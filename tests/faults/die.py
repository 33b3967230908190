"""A death that is arranged: this process kills itself before or after the Nth call of a method."""

from __future__ import annotations

import functools
import importlib
import os
import signal
from typing import Any


def arrange(method: str, when: str, number: int) -> None:
    """Let this process be killed with SIGKILL.

    Args:
        method: as module:Class.method.
        when: "before" or "after" the call.
        number: of the call: 1, 2, ...
    """
    module, _, path = method.partition(":")
    owner = importlib.import_module(module)
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    real = getattr(owner, name)
    calls = iter(range(1, 1 << 30))

    @functools.wraps(real)
    def deadly(*args: Any, **kwargs: Any) -> Any:
        last = next(calls) == number
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return real(*args, **kwargs)
        finally:
            if last:
                os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, deadly)
