"""Run the service and kill it (SIGKILL, by itself) before or after the Nth call of one method.

die.py METHOD before|after N ARGUMENT...       METHOD as module:Class.method
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from typing import Any


def arrange(method: str, when: str, number: int) -> None:
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


def main() -> int:
    method, when, number, *arguments = sys.argv[1:]
    arrange(method, when, int(number))
    from cuckoo_zfsiscsi.cli import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
