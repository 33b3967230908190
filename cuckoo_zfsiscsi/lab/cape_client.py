"""Asks the lab's real CAPE as its users do: by utils/submit.py, by REST, and by the web form."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab.command import HANG
from cuckoo_zfsiscsi.lab.real_cape import WEB_PORT, RealCape
from cuckoo_zfsiscsi.lab.watch import inside

URL = f"http://127.0.0.1:{WEB_PORT}"
TIMEOUT = HANG
"""Seconds for one answer of CAPE's web server."""
PAUSE = 1.0
ENDED = ("reported", "failed_analysis", "failed_processing", "failed_reporting")
"""What a task is in the end."""
OPTIONS = {"platform": "linux", "package": "python", "route": "none", "timeout": "60"}
"""Of every task: route = none, as CAPE on SQLite locks its own database otherwise."""

Submit = Callable[[Path], int]


class CapeClient:
    """One user of the lab's CAPE.

    Args:
        cape: that runs.
    """

    def __init__(self, cape: RealCape) -> None:
        self._cape = cape
        self._network = cape.server.namespace

    @property
    def ways(self) -> dict[str, Submit]:
        """Every way to submit a sample: each returns the task's id."""
        return {"submit.py": self.by_program, "REST": self.by_rest, "web form": self.by_form}

    def by_program(self, sample: Path, *more: str) -> int:
        """Submit by utils/submit.py; return the task's id.

        Args:
            sample: it.
            more: options of that program.

        Raises:
            LabError: CAPE does not take it.
        """
        options = [f"--{key}={value}" for key, value in OPTIONS.items()]
        said = self._cape.run("utils/submit.py", *options, *more, str(sample))
        return _task(r"ID (?:\x1b\[\d+m)?(\d+)", said)

    def by_rest(self, sample: Path) -> int:
        """Submit by REST; return the task's id.

        Raises:
            LabError: CAPE does not take it.
        """
        files = {"file": (sample.name, sample.read_bytes())}
        answer = self._ask("POST", "/apiv2/tasks/create/file/", data=OPTIONS, files=files)
        return _task(r'"task_ids": ?\[(\d+)', answer.text)

    def by_form(self, sample: Path) -> int:
        """Submit by the web form, as a browser does; return the task's id.

        Raises:
            LabError: CAPE does not take it.
        """

        def fill_in() -> str:
            with requests.Session() as browser:
                browser.trust_env = False
                page = browser.get(f"{URL}/submit/", timeout=TIMEOUT)
                hidden = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
                if not hidden:
                    raise LabError(f"CAPE's web form answered {page.status_code}, without its form")
                form = {**OPTIONS, "csrfmiddlewaretoken": hidden[1], "job_category": "file"}
                sent = browser.post(
                    f"{URL}/submit/",
                    data={**form, "lin_options": "", "priority": "1"},
                    files={"sample": (sample.name, sample.read_bytes())},
                    headers={"Referer": f"{URL}/submit/"},
                    timeout=TIMEOUT,
                )
                return sent.text

        return _task(r"/submit/status/(\d+)/", inside(self._network, fill_in))

    def view(self, task: int) -> dict[str, Any]:
        """Return what CAPE knows of a task: status, machine, errors, ...

        Raises:
            LabError: it does not say.
        """
        return self._data(f"/apiv2/tasks/view/{task}/")

    def machines(self) -> list[dict[str, Any]]:
        """Return CAPE's machines.

        Raises:
            LabError: it does not say.
        """
        found: Any = self._data("/apiv2/machines/list/")
        return list(found)

    def wait(self, task: int, deadline: Deadline) -> dict[str, Any]:
        """Wait for the end of a task; return what CAPE knows of it.

        Raises:
            LabError: CAPE does not answer.
            DeadlineExceededError: it does not end.
        """
        while (seen := self.view(task))["status"] not in ENDED:
            deadline.sleep(PAUSE, f"task {task}, {seen['status']}")
        return seen

    def report(self, task: int) -> dict[str, Any]:
        """Return the report of a task that is reported.

        Raises:
            LabError: there is none.
        """
        answer = self._ask("GET", f"/apiv2/tasks/get/report/{task}/json/")
        return _object(answer)

    def _data(self, path: str) -> dict[str, Any]:
        answer = _object(self._ask("GET", path))
        if answer.get("error"):
            raise LabError(f"CAPE's REST: {path}: {answer}")
        data: dict[str, Any] = answer["data"]
        return data

    def _ask(self, method: str, path: str, **what: Any) -> requests.Response:  # noqa: ANN401
        def ask() -> requests.Response:
            with requests.Session() as session:
                session.trust_env = False
                return session.request(method, URL + path, timeout=TIMEOUT, **what)

        return inside(self._network, ask)


def _object(answer: requests.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        raise LabError(f"CAPE's REST answered {answer.status_code}: {answer.text[:200]}") from None
    if not isinstance(found, dict):
        raise LabError(f"CAPE's REST sent no object: {found!r:.200}")
    return found


def _task(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if not found:
        plain = re.sub(r"<[^>]*>|\s+", " ", text)
        raise LabError(f"CAPE took no sample: {plain[-500:]!r}")
    return int(found[1])
