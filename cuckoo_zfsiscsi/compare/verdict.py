"""What a report proves: was the C2 server contacted, as in section 4 of the paper, or what else.

Reports are made of what malware did: nothing in them is trusted to have its shape.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

MOST = 2000
"""Endpoints of one kind that are kept of a report."""
COMPLETED = "Analysis completed"
"""In the log of CAPE's analyzer when it came to its end."""


class State(str, Enum):
    """What came of one run, the best first."""

    CONTACTED = "contacted"
    """Data went to or from a server that is not the baseline's: the paper's "ran"."""
    TRIED = "tried"
    """It asked for a name, or for a server that did not answer."""
    RAN = "ran"
    """Its processes were seen, but no traffic of its own."""
    DID_NOT_RUN = "did not run"
    """The analysis came to its end without any trace of it."""
    FAILURE = "infrastructure failure"
    """Nothing is known of the sample: the machine, the agent or CAPE failed."""


@dataclass(frozen=True)
class Facts:
    """What is kept of one run."""

    failure: str = ""
    """Why nothing is known; else empty."""
    completed: bool = False
    processes: int = 0
    contacted: tuple[str, ...] = ()
    """address:port, or name of an HTTP server, that data was exchanged with."""
    tried: tuple[str, ...] = ()
    """Names that were asked for, addresses that were sent to, address:port that was silent."""
    names: tuple[tuple[str, str], ...] = ()
    """(name, address) as DNS said."""

    def document(self) -> Json:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def parse(cls, found: Json) -> Facts:
        """Return what document() made."""
        return cls(
            str(found["failure"]),
            bool(found["completed"]),
            int(found["processes"]),
            tuple(found["contacted"]),
            tuple(found["tried"]),
            tuple((name, address) for name, address in found["names"]),
        )


def read_report(report: Json) -> Facts:
    """Return what a report of CAPE says."""
    network = _object(report.get("network"))
    contacted, tried = set[str](), set[str]()
    names = set[tuple[str, str]]()
    for flow in _objects(network.get("tcp")):
        contacted.add(f"{flow.get('dst')}:{flow.get('dport')}")
    for request in _objects(network.get("http")):
        contacted.add(_host_of(request))
    for question in _objects(network.get("dns")):
        name = str(question.get("request") or "").lower().rstrip(".")
        tried.add(name)
        for answer in _objects(question.get("answers")):
            names.add((name, str(answer.get("data"))))
    for domain in _objects(network.get("domains")):
        tried.add(str(domain.get("domain") or "").lower().rstrip("."))
    hosts = network.get("hosts")
    for host in hosts if isinstance(hosts, list) else []:
        tried.add(str(host.get("ip") or "") if isinstance(host, dict) else str(host))
    dead = network.get("dead_hosts")
    for pair in dead if isinstance(dead, list) else []:
        if isinstance(pair, list) and len(pair) == 2:
            tried.add(f"{pair[0]}:{pair[1]}")
    processes = _object(report.get("behavior")).get("processes")
    return Facts(
        completed=COMPLETED in str(_object(report.get("debug")).get("log") or ""),
        processes=len(processes) if isinstance(processes, list) else 0,
        contacted=_kept(contacted),
        tried=_kept(tried),
        names=tuple(sorted(names)[:MOST]),
    )


def machines_of(view: Json, report: Json) -> set[str]:
    """Return the labels of the machines that a task and its report say it ran on."""
    guest = _object(view.get("guest"))
    machine = _object(_object(report.get("info")).get("machine"))
    seen = [guest.get("label") or guest.get("name"), machine.get("label") or machine.get("name")]
    # The task's own field is what was asked for, unless there is nothing better
    return {str(one) for one in seen if one} or {str(view.get("machine") or "")} - {""}


@dataclass(frozen=True)
class Verdict:
    """What one run proves."""

    state: State
    why: str
    """The endpoints or the failure behind it, for people."""


def decide(facts: Facts, baseline: Iterable[Facts]) -> Verdict:
    """Judge one run.

    Args:
        facts: of the run.
        baseline: of the benign sample's runs in the same environment; what they did, any sample
            would have done.
    """
    if facts.failure:
        return Verdict(State.FAILURE, facts.failure)
    usual = set[str]()
    for one in baseline:
        usual |= {*one.contacted, *one.tried}
        usual |= {address for _, address in one.names}
    # A name of the baseline may have another address today
    usual |= {address for name, address in facts.names if name in usual}
    contacted = [one for one in facts.contacted if not _is_usual(one, usual)]
    tried = [one for one in facts.tried if not _is_usual(one, usual)]
    if contacted:
        return Verdict(State.CONTACTED, _few(contacted))
    if tried:
        return Verdict(State.TRIED, _few(tried))
    if facts.processes:
        number = facts.processes
        return Verdict(State.RAN, f"{number} process{'' if number == 1 else 'es'}")
    if facts.completed:
        return Verdict(State.DID_NOT_RUN, "analysis completed, no process, no traffic of its own")
    return Verdict(State.FAILURE, "the analysis did not come to its end: no agent, or no analyzer")


def _is_usual(endpoint: str, usual: set[str]) -> bool:
    return endpoint in usual or endpoint.rpartition(":")[0] in usual


def _host_of(request: Json) -> str:
    host = str(request.get("host") or "")
    if not host:
        try:
            host = urlsplit(str(request.get("uri") or "")).netloc
        except ValueError:
            host = ""
    return host.lower()


def _few(found: list[str]) -> str:
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ", ".join(found[:5]) + more


def _kept(found: set[str]) -> tuple[str, ...]:
    """Return what can be an endpoint, in order, a line of text each."""
    return tuple(sorted(one[:255] for one in found if one and one.isprintable())[:MOST])


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
