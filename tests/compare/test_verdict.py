from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuckoo_zfsiscsi.compare.verdict import Facts, State, decide, machines_of, read_report
from tests.compare.fake_cape import make_report

UPDATE: dict[str, Any] = {
    "tcp": ["192.0.2.80:443"],
    "dns": {"update.test": ["192.0.2.80"]},
    "hosts": ["192.0.2.80", "192.0.2.255"],
    "dead": ["192.0.2.7:445"],
}
BASELINE = read_report(make_report("pc1", **UPDATE))


@pytest.mark.parametrize(
    ("more", "state", "why"),
    [
        ({}, State.RAN, "1 process"),
        ({"processes": 3}, State.RAN, "3 processes"),
        ({"processes": 0}, State.DID_NOT_RUN, ""),
        ({"processes": 0, "completed": False}, State.FAILURE, "did not come to its end"),
        ({"tcp": ["198.51.100.6:8443"]}, State.CONTACTED, "198.51.100.6:8443"),
        ({"http": ["c2.test"]}, State.CONTACTED, "c2.test"),
        # It destroyed the system, agent and all: it ran
        ({"tcp": ["198.51.100.6:1"], "completed": False}, State.CONTACTED, "198.51.100.6:1"),
        ({"dns": {"c2.test": []}}, State.TRIED, "c2.test"),
        ({"hosts": ["198.51.100.6"]}, State.TRIED, "198.51.100.6"),
        ({"dead": ["198.51.100.6:443"]}, State.TRIED, "198.51.100.6:443"),
        # The baseline's address at another port is the baseline's
        ({"tcp": ["192.0.2.80:80"]}, State.RAN, ""),
        # The baseline's name at another address, too
        (
            {"tcp": ["192.0.2.81:443"], "dns": {"Update.test.": ["192.0.2.81"]}},
            State.RAN,
            "",
        ),
    ],
)
def test_states(more: dict[str, Any], state: State, why: str) -> None:
    verdict = decide(read_report(make_report("pc1", **more)), [BASELINE])
    assert verdict.state is state
    assert why in verdict.why


def test_without_a_baseline_all_counts() -> None:
    assert decide(BASELINE, []).state is State.CONTACTED
    assert decide(BASELINE, [BASELINE]).state is State.RAN


def test_failures_and_many_endpoints() -> None:
    assert decide(Facts(failure="gone"), [BASELINE]).why == "gone"
    report = make_report("pc1", tcp=[f"198.51.100.{n}:1" for n in range(9)])
    assert decide(read_report(report), []).why.endswith("and 4 more")


def test_facts_can_be_kept() -> None:
    kept = json.loads(json.dumps(BASELINE.document()))
    assert Facts.parse(kept) == BASELINE


def test_machines() -> None:
    report = make_report("pc1")
    assert machines_of({"guest": {"label": "pc1"}, "machine": "asked"}, report) == {"pc1"}
    assert machines_of({"guest": {"name": "pc2"}}, report) == {"pc1", "pc2"}
    assert machines_of({"guest": {}, "machine": "pc3"}, {}) == {"pc3"}
    assert machines_of({}, {"info": {"machine": ""}}) == set()
    assert machines_of({}, {"info": {"machine": {"label": ["pc4"]}}}) == {"['pc4']"}


ANYTHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda one: st.lists(one, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["network", "tcp", "http", "dns", "answers", "data", "hosts", "dead_hosts", "ip",
             "request", "debug", "log", "behavior", "processes", "info", "machine", "label", "uri"]
        ),
        one,
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@given(ANYTHING, ANYTHING)
def test_whatever_a_report_holds(network: Any, rest: Any) -> None:
    report = {"network": network, "behavior": rest, "debug": rest, "info": rest}
    facts = read_report(report)
    decide(facts, [facts])
    machines_of(report, report)
    assert Facts.parse(json.loads(json.dumps(facts.document()))) == facts
    assert all(one.isprintable() and one for one in facts.contacted + facts.tried)
