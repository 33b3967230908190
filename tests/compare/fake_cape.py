"""A CAPE server in memory: answers as CAPE's apiv2/views.py does, behind an adapter of requests."""

from __future__ import annotations

import email
import email.policy
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.adapters import BaseAdapter

Json = dict[str, Any]


def make_report(
    machine: str,
    *,
    completed: bool = True,
    processes: int = 1,
    tcp: list[str] | None = None,
    http: list[str] | None = None,
    dns: dict[str, list[str]] | None = None,
    hosts: list[str] | None = None,
    dead: list[str] | None = None,
) -> Json:
    """Make a report with the fields that CAPE's processing writes."""

    def flow(end: str) -> Json:
        address, _, port = end.rpartition(":")
        return {"src": "10.9.9.9", "sport": 49200, "dst": address, "dport": int(port),
                "offset": 40, "time": 1.5}  # fmt: skip

    questions = [
        {"request": name, "type": "A", "answers": [{"type": "A", "data": a} for a in answers]}
        for name, answers in (dns or {}).items()
    ]
    return {
        "info": {"id": 1, "machine": {"id": 3, "status": "stopped", "name": machine,
                 "label": machine, "manager": "KVM"}},
        "debug": {"log": "INFO: Analysis completed.\n" if completed else "", "errors": []},
        "behavior": {"processes": [{"process_id": n} for n in range(processes)]},
        "network": {
            "tcp": [flow(end) for end in tcp or []],
            "http": [{"host": host, "uri": f"http://{host}/x", "port": 80} for host in http or []],
            "dns": questions,
            "domains": [{"domain": name, "ip": ""} for name in dns or {}],
            "hosts": [{"ip": ip, "country_name": "unknown", "ports": []} for ip in hosts or []],
            "dead_hosts": [[end.rpartition(":")[0], int(end.rpartition(":")[2])]
                           for end in dead or []],
        },
    }  # fmt: skip


@dataclass
class Task:
    """One task."""

    id: int
    sha256: str
    form: dict[str, str]
    looks: int = 0


@dataclass
class FakeCape(BaseAdapter):
    """One server. `play` decides what a sample does on a machine: a report, or a final status."""

    play: Callable[[bytes, str], Json | str]
    machines: dict[str, list[str]] = field(default_factory=dict)
    """Tags by label."""
    tasks: list[Task] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    looks: int = 1
    """Looks at a task's status until it has ended."""
    tick: Callable[[], None] = lambda: None
    """Called before a request is carried out, and after."""
    special: dict[str, list[Any]] = field(default_factory=dict)
    """Answers to give instead, by path; an exception is raised."""
    swap: str = ""
    """CAPE took this machine instead of the one asked for."""

    def __post_init__(self) -> None:
        super().__init__()

    def session(self) -> requests.Session:
        session = requests.Session()
        session.mount("http://", self)
        return session

    def close(self) -> None: ...

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        path = str(request.path_url).removeprefix("/apiv2/")
        self.tick()
        self.asked.append(f"{request.method} {path}")
        status, headers, body = 200, {}, None
        if waiting := self.special.get(path):
            body = waiting.pop(0)
            if isinstance(body, Exception):
                raise body
            if isinstance(body, tuple):
                status, headers, body = body
        if body is None:
            body = self.answer(request, path)
        self.tick()
        response = requests.Response()
        response.status_code = status
        response.headers.update(headers)
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        response.raw = io.BytesIO(text)
        response.request = request
        response.url = str(request.url)
        return response

    def answer(self, request: requests.PreparedRequest, path: str) -> Json:
        words = path.strip("/").split("/")
        if path == "tasks/create/file/":
            return self.create(request)
        if words[:2] == ["tasks", "search"]:
            found = [self.row(task) for task in self.tasks if task.sha256 == words[3]]
            return {"error": [] if found else False, "data": found}
        if path == "machines/list/":
            rows = [{"label": label, "tags": tags} for label, tags in self.machines.items()]
            return {"error": [], "data": rows}
        number = int(words[3] if words[1] == "get" else words[2])
        if not 0 < number <= len(self.tasks):
            return {"error": True, "error_value": "Task does not exist"}
        task = self.tasks[number - 1]
        ended = self.outcome(task)
        if words[1] == "status":
            task.looks += 1
            done = ended if isinstance(ended, str) else "reported"
            return {"error": False, "data": done if task.looks > self.looks else "running"}
        if words[1] == "view":
            return {"error": False, "data": self.row(task)}
        assert words[1] == "get"
        if isinstance(ended, str):
            return {"error": True, "error_value": "Task is still being analyzed"}
        return ended

    def create(self, request: requests.PreparedRequest) -> Json:
        assert isinstance(request.body, bytes)
        head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + request.body, policy=email.policy.HTTP)
        form, content = {}, b""
        for part in message.iter_parts():
            name = part.get_param("name", header="content-disposition")
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            if name == "file":
                content = payload
            else:
                form[str(name)] = payload.decode()
        machine = form.get("machine", "")
        if machine and machine not in self.machines:
            return {"error": True, "error_value": f"Machine '{machine}' does not exist."}
        digest = hashlib.sha256(content).hexdigest()
        self.contents[digest] = content
        self.tasks.append(Task(len(self.tasks) + 1, digest, form))
        return {"error": [], "data": {"task_ids": [len(self.tasks)]}, "errors": []}

    def machine(self, task: Task) -> str:
        if self.swap:
            return self.swap
        wanted = set(task.form.get("tags", "").split(",")) - {""}
        fit = (label for label, tags in self.machines.items() if wanted <= set(tags))
        return task.form.get("machine") or next(fit)

    def outcome(self, task: Task) -> Json | str:
        return self.play(self.contents[task.sha256], self.machine(task))

    def row(self, task: Task) -> Json:
        machine = self.machine(task)
        errors = ["The analysis hit the critical timeout"]
        return {
            "id": task.id, "custom": task.form.get("custom", ""), "machine": machine,
            "guest": {"name": machine, "label": machine, "manager": "KVM"},
            "errors": errors if isinstance(self.outcome(task), str) else [],
        }  # fmt: skip
