"""The subcommands that ask the service, over a unix socket, with a host that fails on command."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import uvicorn

from cuckoo_zfsiscsi.cli import run
from cuckoo_zfsiscsi.errors import PowerError
from cuckoo_zfsiscsi.service.api import make_api
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.report import State
from tests.clocks import RealClock
from tests.config.sample import EXAMPLE
from tests.service.conftest import Make, make, world
from tests.service.fakes import World
from tests.service.in_real_time import clock, host
from tests.service.one_host import OneHost
from tests.service.waiting import boot_within, quiet
from tests.waiting import wait

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.service.fleet import Fleet

__all__ = ["clock", "host", "make", "world"]  # fixtures

Cli = Callable[..., int]


@contextmanager
def serve(host: Host, tmp_path: Path) -> Iterator[Cli]:
    """Give the command line of a service that runs."""
    socket = tmp_path / "api.sock"
    conf = tmp_path / "zfsiscsi.conf"
    text = EXAMPLE.read_text().replace("http://127.0.0.1:8470", f"unix://{socket}")
    conf.write_text(text.replace("token_file =", "# token_file ="))
    api = make_api(cast("Fleet", OneHost(host, tmp_path)), None)
    server = uvicorn.Server(uvicorn.Config(api, uds=str(socket), log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait(lambda: server.started, what="uvicorn does not start")
    yield lambda *words: run(["--conf", str(conf), *words])
    server.should_exit = True
    thread.join()


@pytest.fixture
def cli(host: Host, tmp_path: Path) -> Iterator[Cli]:
    with serve(host, tmp_path) as made:
        yield made


def test_runs(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("runs") == 0
    assert "no run is on record" in capsys.readouterr().out
    assert cli("start", "pc1", "--task", "77") == 0
    capsys.readouterr()
    assert cli("runs", "--task", "77", "--json") == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert run["evidence"] == "pc1-g1"
    assert cli("stop", "pc1") == 0
    assert cli("runs", "--host", "pc1") == 0
    assert "pc1-g1" in capsys.readouterr().out


def test_what_was_seen_in_a_run(cli: Cli, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    told = "its agent did not answer at the end: it last did 0 s after the start (silent)"
    assert cli("start", "pc1") == 0
    world.answers.discard("agent")
    assert cli("stop", "pc1") == 0
    assert f"pc1, in its last run: {told}" in capsys.readouterr().out
    assert cli("runs") == 0
    assert f"pc1-g1: {told}" in capsys.readouterr().out


def test_history(
    cli: Cli,
    host: Host,
    world: World,
    clock: RealClock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli("start", "pc1") == 0
    assert cli("stop", "pc1") == 0
    quiet(host, State.CLEAN)
    world.fail["off"] = PowerError("[bold]no answer[/bold]", fix="ping it")
    assert cli("reset", "pc1") == 0
    clock.until(lambda: host.report().reason != "", "quarantined", host.report)
    capsys.readouterr()
    assert cli("history") == 0
    shown = capsys.readouterr().out
    for words in ("ready, recovery", "a clean disk is in place", "it is (fake://)"):
        assert words in shown
    assert "[bold]no answer[/bold]" in shown, "a BMC's words are no markup"
    assert cli("history", "pc1", "--kind", "boot", "--json") == 0
    (boot,) = json.loads(capsys.readouterr().out)
    assert (boot["host"], boot["ok"], boot["generation"]) == ("pc1", True, 1)
    assert cli("history", "pc2") == 0
    assert "nothing is on record" in capsys.readouterr().out
    assert cli("history", "--kind", "nonsense") == 2


def test_hosts(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("hosts") == 0
    shown = capsys.readouterr().out
    assert "pc1" in shown
    assert "clean" in shown
    assert "win10@1" in shown
    assert cli("hosts", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "clean"
    assert cli("hosts", "pc1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["label"] == "pc1"


def test_start_and_stop(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("start", "pc1", "--task", "seven") == 0
    shown = capsys.readouterr().out
    assert "pc1 is ready" in shown
    assert "login" in shown
    assert cli("hosts", "pc1") == 0
    shown = capsys.readouterr().out
    assert "seven" in shown
    assert "agent" in shown
    assert cli("stop", "pc1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["run"] is False
    assert cli("start", "pc1", "--json", "--timeout", "5") == 0
    assert json.loads(capsys.readouterr().out)["generation"] == 2
    assert cli("stop", "pc1") == 0
    assert capsys.readouterr().out.startswith("pc1: ")


def test_a_warning_of_the_boot(
    make: Make, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words of a guest are no markup."""
    world.warning = "pc1 was not told: [/x]"
    told = make(network_via="agent")
    quiet(told, State.CLEAN)
    with serve(told, tmp_path) as cli:
        for words in (("start", "pc1"), ("hosts",), ("boots", "pc1")):
            assert cli(*words) == 0
            assert world.warning in capsys.readouterr().out


def test_reset_and_maintenance(cli: Cli, host: Host) -> None:
    assert cli("reset", "pc1") == 0
    quiet(host, State.CLEAN)
    assert cli("maintenance", "pc1", "on") == 0
    quiet(host, State.MAINTENANCE)
    assert cli("maintenance", "pc1", "off", "--json") == 0
    quiet(host, State.CLEAN)


def test_edit(
    cli: Cli,
    host: Host,
    world: World,
    clock: RealClock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli("image", "edit", "pc1", "win10") == 0
    said = capsys.readouterr().out
    assert "zfsiscsi maintenance pc1 off" in said
    assert "zfsiscsi image seal win10" in said
    clock.until(lambda: world.is_up, "booted from the draft", host.report)
    assert cli("image", "edit", "pc1", "win10", "--json") == 0
    assert json.loads(capsys.readouterr().out)["label"] == "pc1"


def test_errors_have_a_fix(
    cli: Cli, host: Host, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("start", "pc9") == 1
    assert "error: " in capsys.readouterr().err
    world.boots = False
    boot_within(host, 0.5)
    assert cli("start", "pc1") == 1
    said = capsys.readouterr().err
    assert "not become ready" in said
    assert "fix: " in said
    assert cli("hosts") == 0
    assert "not become ready" in capsys.readouterr().out
    quiet(host, State.QUARANTINED)


def test_no_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = tmp_path / "zfsiscsi.conf"
    socket = tmp_path / "none.sock"
    text = EXAMPLE.read_text().replace("http://127.0.0.1:8470", f"unix://{socket}")
    conf.write_text(text.replace("token_file =", "# token_file ="))
    assert run(["--conf", str(conf), "hosts"]) == 1
    said = capsys.readouterr().err
    assert str(socket) in said
    assert "fix: " in said


def test_no_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["hosts"], ["serve"]):
        assert run(["--conf", str(tmp_path / "none.conf"), *command]) == 1
        said = capsys.readouterr().err
        assert "none.conf" in said
        assert "fix: " in said
