"""CAPE's REST API, as far as a comparison needs it, within its rate limits."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from cuckoo_zfsiscsi.clock import SYSTEM, Clock
from cuckoo_zfsiscsi.config.secrets import read_secret_file
from cuckoo_zfsiscsi.errors import CompareError

Json = dict[str, Any]

CONNECT, READ = 10.0, 120.0
"""Seconds for a connection, and for each part of an answer."""
WHOLE = 900.0
"""Seconds for a whole answer."""
LARGEST = 512 << 20
"""Bytes of a report."""
MINUTE = 60.0
"""Seconds."""
OUTAGE = 600.0
"""Seconds for which a server may be away before we give up for now."""


class RefusedError(CompareError):
    """CAPE answered that it won't."""


class LostError(CompareError):
    """No answer: whether the request was carried out is not known."""


class Rest:
    """One CAPE server.

    Args:
        server: root of its web interface.
        token_file: with a token of its API (mode 600); None: it needs none.
        rate: requests per minute.
        session: makes a session of requests.
        tell: told what is waited for.
        clock: that its pauses go by.
    """

    def __init__(
        self,
        server: str,
        token_file: Path | None,
        rate: int,
        *,
        session: Callable[[], requests.Session] = requests.Session,
        tell: Callable[[str], None] = lambda _what: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.server = server
        self._token_file = token_file
        self._rate = rate
        self._session = session
        self._tell = tell
        self._clock = clock
        self._asked: deque[float] = deque(maxlen=rate)

    def submit(self, sample: Path, form: dict[str, str]) -> int:
        """Submit a file; return the task's id.

        Raises:
            RefusedError: CAPE makes no task of it, or more than one.
            LostError: it may have made one.
        """
        files = {"file": (sample.name, sample.read_bytes())}
        found = self._ask("POST", "tasks/create/file/", data=form, files=files)
        data = found.get("data")
        tasks = data.get("task_ids") if isinstance(data, dict) else None
        if not isinstance(tasks, list) or not tasks or not isinstance(tasks[0], int):
            raise RefusedError(f"{self.server} made no task: {_reason(found)}")
        if len(tasks) > 1:
            raise RefusedError(
                f"{self.server} made {len(tasks)} tasks of {sample.name}",
                fix="name the file inside the archive as the sample",
            )
        return int(tasks[0])

    def find(self, sha256: str, custom: str) -> int | None:
        """Return the id of the task of a file that was submitted with this `custom`, if any.

        Raises:
            RefusedError: the server does not tell.
        """
        found = self._get(f"tasks/search/sha256/{sha256}/")
        if found.get("error"):
            raise RefusedError(
                f"{self.server} does not tell whether a task was made: {_reason(found)}",
                fix="[tasksearch] enabled = yes in its api.conf",
            )
        tasks = found.get("data")
        for task in tasks if isinstance(tasks, list) else []:
            if isinstance(task, dict) and task.get("custom") == custom:
                return int(task["id"])
        return None

    def status(self, task: int) -> str:
        """Return the status of a task.

        Raises:
            RefusedError: there is none.
        """
        return str(self._data(f"tasks/status/{task}/"))

    def view(self, task: int) -> Json:
        """Return what CAPE knows of a task.

        Raises:
            RefusedError: there is none.
        """
        data = self._data(f"tasks/view/{task}/")
        return data if isinstance(data, dict) else {}

    def report(self, task: int) -> Json:
        """Return the report of a task.

        Raises:
            RefusedError: there is none.
        """
        found = self._get(f"tasks/get/report/{task}/json/")
        if found.get("error"):
            raise RefusedError(f"{self.server} has no report of task {task}: {_reason(found)}")
        return found

    def machines(self) -> list[Json]:
        """Return CAPE's machines.

        Raises:
            RefusedError: it does not tell.
        """
        data = self._data("machines/list/")
        return [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []

    def _data(self, path: str) -> Any:  # noqa: ANN401 - as CAPE sends it
        found = self._get(path)
        if found.get("error") or "data" not in found:
            raise RefusedError(f"{self.server}, {path}: {_reason(found)}")
        return found["data"]

    def _get(self, path: str) -> Json:
        """Ask until there is an answer: what only reads may be asked again."""
        began = self._clock.monotonic()
        pause = 1.0
        while True:
            try:
                return self._ask("GET", path)
            except LostError:  # noqa: PERF203 - it waits for a server
                if self._clock.monotonic() - began > OUTAGE:
                    raise
                self._tell(f"{self.server} does not answer, next try in {pause:.0f} s")
                self._clock.sleep(pause)
                pause = min(60.0, pause * 2)

    def _ask(self, method: str, path: str, **what: Any) -> Json:  # noqa: ANN401
        while True:
            self._pace()
            answer, text = self._once(method, path, **what)
            if answer.status_code != 429:  # too many requests: this one was not carried out
                return self._judge(answer, text, path)
            pause = _retry_after(answer)
            self._tell(f"{self.server}: rate limit, going on in {pause:.0f} s")
            self._clock.sleep(pause)

    def _pace(self) -> None:
        if len(self._asked) == self._rate:
            self._clock.sleep(max(0.0, self._asked[0] + MINUTE - self._clock.monotonic()))
        self._asked.append(self._clock.monotonic())

    def _once(self, method: str, path: str, **what: Any) -> tuple[requests.Response, bytes]:  # noqa: ANN401
        headers = {"Accept": "application/json"}
        if self._token_file:
            token = read_secret_file(self._token_file, where="token_file")
            headers["Authorization"] = f"Token {token.get_secret_value()}"
        try:
            with self._session() as session:
                session.trust_env = False  # samples and token go through no proxy
                with session.request(
                    method,
                    f"{self.server}/apiv2/{path}",
                    headers=headers,
                    timeout=(CONNECT, READ),
                    allow_redirects=False,
                    stream=True,
                    **what,
                ) as answer:
                    return answer, self._read(answer)
        except requests.RequestException as error:
            raise LostError(
                f"no answer of {self.server}: {type(error).__name__}",
                fix="see whether CAPE's web server runs, then the same command again: it goes on",
            ) from None

    def _read(self, answer: requests.Response) -> bytes:
        end = self._clock.monotonic() + WHOLE
        text = bytearray()
        for part in answer.iter_content(1 << 16):
            text += part
            if len(text) > LARGEST or self._clock.monotonic() > end:
                raise RefusedError(
                    f"{self.server} sent more than {LARGEST >> 20} MiB, or for more than {WHOLE} s"
                )
        return bytes(text)

    def _judge(self, answer: requests.Response, text: bytes, path: str) -> Json:
        if answer.status_code in (401, 403):
            raise CompareError(
                f"{self.server} refuses us: HTTP {answer.status_code}",
                fix="token_file = FILE with a token of a user of this CAPE",
            )
        if answer.status_code >= 500:
            raise LostError(
                f"{self.server} answered {answer.status_code}", fix="see the log of CAPE's web"
            )
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise CompareError(
                f"{self.server}/apiv2/{path} answered {answer.status_code}, and not as CAPE does",
                fix="server = the root of CAPE's web interface",
            )
        return found


def _reason(found: Json) -> str:
    text = found.get("error_value") or found.get("errors") or found.get("error") or "no reason"
    return str(text)[:300]


def _retry_after(answer: requests.Response) -> float:
    """Return the seconds that the server asks for (RFC 9110, 10.2.3), a minute if it does not."""
    text = answer.headers.get("Retry-After", "")
    return float(min(3600, max(1, int(text)))) if text.isascii() and text.isdigit() else MINUTE
