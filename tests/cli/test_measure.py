from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cape.client import ServiceError
from cuckoo_zfsiscsi.cli import run
from cuckoo_zfsiscsi.measure.watch import Watch
from tests.config.sample import EXAMPLE
from tests.measure.played import Played

Cli = Callable[..., int]


@pytest.fixture
def host() -> Iterator[Played]:
    host = Played(0.3)
    yield host
    host.cut()


@pytest.fixture
def cli(host: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    conf = tmp_path / "zfsiscsi.conf"
    conf.write_text(EXAMPLE.read_text())
    monkeypatch.setattr("cuckoo_zfsiscsi.cli.measure.make_client", lambda _config: host)

    # The example's hosts are not here: the played one is
    monkeypatch.setattr(
        "cuckoo_zfsiscsi.cli.measure.Watch",
        lambda _address, *, port: Watch("127.0.0.1", port=port),
    )
    return lambda *words: run(
        ["--conf", str(conf), "measure", "recovery", *words, "--rpc-port", str(host.port)]
    )


def test_table_and_files(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv, chart = tmp_path / "r.csv", tmp_path / "r.svg"
    assert cli("pc1", "--runs", "2", "--csv", str(csv), "--chart", str(chart)) == 0
    said = capsys.readouterr()
    assert "Recovery, seconds (pc1, win10, warm)" in said.out
    assert "table 4" in said.out
    assert "Not comparable" in said.out
    assert "run 2: power is cut" in said.err
    assert csv.read_text().count("pc1,warm,") == 2
    assert chart.read_text().startswith("<svg")


def test_json(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("pc1", "--runs", "1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mode"] == "warm"
    assert found["runs"][0]["generation"] == 2
    assert found["paper_table_4_s"]["FOG 1.2"] == [646, 625, 611]
    assert "paper's definition" in found["method"]


@pytest.fixture
def somebody(host: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reboots the host when told to."""

    def tell(what: str) -> None:
        if what.endswith("reboot the host now"):
            threading.Thread(target=reboot).start()

    def reboot() -> None:
        time.sleep(0.3)
        host.cut()
        host.boot()

    monkeypatch.setattr("cuckoo_zfsiscsi.cli.measure._tell", tell)
    host.boot()


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize("name", ["pc1", "10.0.0.9"])
def test_until_rpc_lost(
    name: str, cli: Cli, host: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(name, "--runs", "1", "--until-rpc-lost", "--timeout", "60", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mode"] == "watched"
    assert bool(found["runs"][0]["stages"]) is (name == "pc1")
    assert host.calls == []


@pytest.mark.usefixtures("somebody")
def test_watched_without_a_service(
    cli: Cli, host: Played, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(_label: str) -> None:
        raise ServiceError("service unreachable")

    monkeypatch.setattr(host, "host", gone)
    assert cli("pc1", "--runs", "1", "--until-rpc-lost", "--timeout", "60") == 0
    assert "watched" in capsys.readouterr().out


def test_mistakes(cli: Cli, host: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("pc9") == 1
    assert "fix: " in capsys.readouterr().err
    assert cli("pc1", "--csv", "/nowhere/at-all.csv") == 2
    assert "is no directory" in " ".join(capsys.readouterr().err.split())
    host.run = True
    assert cli("pc1") == 1
    assert "--until-rpc-lost" in capsys.readouterr().err
    assert host.calls == []
