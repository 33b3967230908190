"""A daemon of the lab, whose output goes to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cuckoo_zfsiscsi.daemon import GRACE, Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError, ZfsIscsiError
from cuckoo_zfsiscsi.lab.command import into, last_words

NOT_FOUND = 127
"""Status with which a shell, and nsenter, say that there is no such program."""


class Logged(Daemon):
    """One program whose output goes to a file, as it may outlive us; a start that fails quotes it.

    Args:
        argv: program and arguments: no secrets. It must stay in the foreground.
        log: the file, appended to.
        pid_file: as of Daemon.
        name: of the program in messages.
        env: added to our own environment: what the lab runs is a part of it, from its checkout.
        install: how to install the program.
        grace: seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        pid_file: Path,
        *,
        name: str,
        env: Mapping[str, str] | None = None,
        install: str = "",
        grace: float = GRACE,
    ) -> None:
        super().__init__(
            into(log, argv),
            pid_file,
            name=name,
            env={**os.environ, **(env or {})},
            error=LabError,
            install=install,
            grace=grace,
        )
        self._log = log

    def start(self, deadline: Deadline, ready: Callable[[], bool] | None = None) -> None:
        """As Daemon.start().

        Raises:
            LabError, DeadlineExceededError, CancelledError: as there, with the end of the log.
        """
        try:
            super().start(deadline, ready)
        except ZfsIscsiError as error:
            is_missing = f"status {NOT_FOUND}" in error.what
            what = f"{error.what.rstrip(': ')}; {self._log.name}: {last_words(self._log)}"
            raise type(error)(what, fix=self._install if is_missing else error.fix) from error
