from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cuckoo_zfsiscsi.cli import run
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.readiness import agent as agent_probe
from cuckoo_zfsiscsi.readiness import rpc as rpc_probe
from tests.readiness.peers import guest, says, silent
from tests.readiness.test_rpc import ACK

AGENT = b'HTTP/1.0 200 OK\r\n\r\n{"message": "CAPE Agent!", "version": "0.22"}'


def probe(capsys: pytest.CaptureFixture[str], rpc: int, agent: int, *more: str) -> tuple[int, Any]:
    ports = ["--rpc-port", str(rpc), "--agent-port", str(agent)]
    code = run(["probe", "127.0.0.1", *ports, *more])
    return code, json.loads(capsys.readouterr().out)


def test_both_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with guest(says(ACK)) as rpc, guest(says(AGENT)) as agent:
        code, answers = probe(capsys, rpc, agent, "--json")
    assert code == 0
    assert list(answers) == ["rpc", "agent"]
    assert all(answer["ok"] is True for answer in answers.values())
    assert all(set(answer) == {"ok", "detail", "seconds", "heard"} for answer in answers.values())


@pytest.fixture
def silent_port() -> Iterator[int]:
    with guest(silent) as port:
        yield port


def test_one_is_not_enough(capsys: pytest.CaptureFixture[str], silent_port: int) -> None:
    with guest(says(ACK)) as rpc:
        code, answers = probe(capsys, rpc, silent_port, "--timeout", "0.5")
    assert (code, answers["rpc"]["ok"], answers["agent"]["ok"]) == (1, True, False)
    with guest(says(AGENT)) as agent, guest(silent) as rpc:
        code, answers = probe(capsys, rpc, agent, "--timeout", "0.5")
    assert (code, answers["rpc"]["ok"], answers["agent"]["ok"]) == (1, False, True)


def test_timeout_is_for_both_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deadlines: list[Deadline] = []
    for module in (rpc_probe, agent_probe):

        def note(*words: Any, deadline: Deadline, ask: Callable[..., Any] = module.probe) -> Any:
            deadlines.append(deadline)
            return ask(*words, deadline=deadline)

        monkeypatch.setattr(module, "probe", note)
    with guest(silent) as rpc, guest(silent) as agent:
        code, answers = probe(capsys, rpc, agent, "--timeout", "2")
    assert code == 1
    for answer in answers.values():
        assert "took longer than 2.0 s" in answer["detail"]
    assert len(deadlines) == 2
    assert deadlines[0] is deadlines[1]


@pytest.mark.parametrize("address", ["localhost", "10.0.0", "pc1"])
def test_address_that_is_none(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", address]) == 2
    assert "does not appear to be an IPv4 or IPv6 address" in " ".join(
        capsys.readouterr().err.replace("│", " ").split()
    )


def test_interrupted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C does not wait for the guest: this test would wait for it, too."""

    class Interrupted:
        def __init__(self, *_args: Any, **_options: Any) -> None:
            pass

        def __call__(self, *_args: Any) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setattr("cuckoo_zfsiscsi.cli.probe.wait", Interrupted())
    with guest(silent) as rpc, guest(silent) as agent:
        code = run(
            ["probe", "127.0.0.1", f"--rpc-port={rpc}", f"--agent-port={agent}", "--timeout=3600"]
        )
    assert code == 130
