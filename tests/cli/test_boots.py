from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi import cli
from cuckoo_zfsiscsi.cape.client import Client
from cuckoo_zfsiscsi.cli.timeline import COLOURS, REACHED, draw
from cuckoo_zfsiscsi.service.report import STAGES
from tests.config.sample import EXAMPLE

READY: dict[str, Any] = {
    "host": "pc1", "generation": 4, "image": "win10@1", "prewarmed": False, "started": 1.7e9,
    "stages": {"swap": 0.02, "dhcp": 2.4, "tftp": 2.6, "ipxe": 5.1, "script": 5.2, "login": 5.3,
               "rpc": 26.5, "agent": 31.0},
    "recovery_s": None, "ready": True, "stalled": "", "warning": "pc1 was not told [/x]",
}  # fmt: skip
STALLED = {
    **READY, "generation": 5, "stages": {"dhcp": 2.4}, "ready": False,
    "stalled": "no tftp: <is UDP port 69 open?>", "warning": "",
}  # fmt: skip


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found = [STALLED, READY]
    monkeypatch.setattr(Client, "boots", lambda _self, _label, limit: found[:limit])
    return found


def run(*words: str) -> int:
    return cli.run(["--conf", str(EXAMPLE), "boots", *words])


def test_stages_are_the_services() -> None:
    assert REACHED == STAGES
    assert set(COLOURS) == set(STAGES)


def test_table(boots: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("pc1") == 0
    said = capsys.readouterr().out
    (ready,) = (line for line in said.splitlines() if "26.5" in line)
    assert "31.0" in ready
    assert "stalled" in said
    assert "ready" in ready
    assert "no tftp: <is UDP port 69 open?>" in said
    assert "pc1 was not told [/x]" in said
    boots.clear()
    assert run("pc1") == 0
    assert "no boot of pc1 is on record" in capsys.readouterr().out


def test_picture(
    boots: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("pc1", "--svg", str(tmp_path / "boots.svg")) == 0
    picture = ElementTree.parse(tmp_path / "boots.svg").getroot()  # noqa: S314 - our own
    texts = [element.text for element in picture.iter() if element.tag.endswith("}text")]
    assert "no tftp" in texts
    assert "31.0 s" in texts
    titles = [element.text for element in picture.iter() if element.tag.endswith("}title")]
    assert titles == [
        "dhcp: 2.40 s", "dhcp: 2.40 s", "tftp: 2.60 s", "iPXE dhcp: 5.10 s", "script: 5.20 s",
        "login: 5.30 s", "rpc: 26.50 s", "agent: 31.00 s",
    ]  # fmt: skip
    widths = [float(e.get("width", 0)) for e in picture.iter() if e.find("{*}title") is not None]
    assert sum(widths[1:]) == pytest.approx(31.0 * 720 / 35, abs=9)
    assert run("pc1", "--svg", str(tmp_path / "none/boots.svg")) == 1
    assert "can't be written" in capsys.readouterr().err


def test_no_boot_is_a_picture_too() -> None:
    ElementTree.fromstring(draw("pc1", []))  # noqa: S314 - our own
