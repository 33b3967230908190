"""The doctor on this very machine, whatever it is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cli import run
from tests.config.sample import edit
from tests.netboot.network import Network, inside, make_network

LOCAL = (
    ("portal = 10.99.0.1", "portal = 10.99.0.1\npath = {folder}"),
    ("[netboot]\ninterface = br-lab", "[netboot]\ninterface = boot0"),
    ("token_file", "service = unix:///{folder}/api.sock\nrun_dir = {folder}\ntoken_file"),
)
ZFS = ("[storage]\n", "[storage]\nstore = zfs\ntarget = lio\npool = zfsiscsi-no-such-pool\n")


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with make_network(f"doctor{os.getpid()}") as network:
        yield network


def doctor(net: Network, folder: Path, *options: str, changes: tuple[tuple[str, str], ...]) -> int:
    conf = folder / "zfsiscsi.conf"
    text = edit(*changes)
    conf.write_text(text.format(folder=folder))
    with inside(net.server):
        return run(["--conf", str(conf), "doctor", *options])


def test_file_store_here(net: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(net, tmp_path, changes=LOCAL) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "not looked at: kernel modules" in lines[0]
    said = "\n".join(lines)
    ports = "free, or the service's own: tcp 10.99.0.1:3271"
    for words in ("memory:", "10.99.0.1: is on ", "time:", "/var:", ports, "zfsiscsi.service:"):
        assert words in said
    assert lines[-1].startswith("0 errors, ")


def test_zfs_store_here(net: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no such pool anywhere, and the portal of the sample is nowhere but inside."""
    assert doctor(net, tmp_path, "--json", changes=(*LOCAL[1:], ZFS)) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    by_where = {finding["where"]: finding for finding in answer["findings"]}
    assert by_where["[storage] pool = zfsiscsi-no-such-pool"]["level"] == "error"
    assert all(finding["fix"] for finding in answer["findings"] if finding["level"] != "ok")


def test_mistakes_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = tmp_path / "zfsiscsi.conf"
    conf.write_text(edit(("arch = x64", "arch = x65")))
    assert run(["--conf", str(conf), "doctor"]) == 1
    assert "error: " in capsys.readouterr().err
