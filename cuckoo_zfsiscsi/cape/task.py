"""Which of CAPE's tasks a call belongs to, and how its analyst is told of a failure."""

from __future__ import annotations

import logging
import re
import threading
from typing import Any

log = logging.getLogger(__name__)


def current_task() -> str | None:
    """Return the id of the task whose thread this is; None in a thread of no task.

    CAPE does not tell a machinery for whom it starts a host. It names the task's thread after it:
    nothing needs to be asked of the database, in which CAPE has a transaction open.
    """
    found = re.fullmatch(r"task-(\d+)", threading.current_thread().name)
    return found[1] if found else None


def current_object() -> Any:  # noqa: ANN401 - CAPE's has no type
    """Return CAPE's own object of this thread's task, read before and kept; None if it has none."""
    return getattr(threading.current_thread(), "task", None)


def tell_analyst(task: str | None, what: str) -> None:
    """Put a failure into the log and among the task's errors, which CAPE's web pages show.

    CAPE's log handler writes whatever has a task_id into its database, outside of any transaction
    of ours. It may fail there, as other handlers may: the start has failed already.
    """
    try:
        log.error("%s", what, extra={"task_id": int(task)} if task else None)
    except Exception:
        log.exception("task %s can't be told of its failure", task)
