from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.cli import run
from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.disk.drivers import make_store, make_target
from cuckoo_zfsiscsi.disk.store.facts import unprotect
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.disk.target.tgt import TgtTarget
from tests.disk.content import make_raw, spare, swap

CONF = """
[zfsiscsi]
machines = pc1
interface = lo
service = unix:///run/zfsiscsi/api.sock
run_dir = {run_dir}
[storage]
path = {path}
portal = 127.0.0.1
portal_port = 3261
iqn = iqn.2017-10.test.cli
[netboot]
interface = lo
address = 127.0.0.1/8
[pc1]
label = pc1
platform = windows
arch = x64
ip = 127.0.0.11
tags = win10,x64
snapshot = win10
mac = 00:11:22:33:44:55
firmware = bios
power = ipmi://admin@127.0.0.12
"""

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def conf(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "zfsiscsi.conf"
    path.write_text(CONF.format(path=tmp_path / "store", run_dir=tmp_path / "run"))
    yield path
    for raw in tmp_path.glob("store/images/*/*.raw"):
        unprotect(raw)


@pytest.fixture
def cli(conf: Path, capfd: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = run(["--conf", str(conf), "image", *map(str, arguments)])
        return (code, *capfd.readouterr())

    return call


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_raw(tmp_path / "disk.raw")


def parsed(answer: tuple[int, str, str]) -> Any:
    code, out, err = answer
    assert (code, err) == (0, "")
    return json.loads(out)


def test_the_configuration_chooses_the_drivers(conf: Path, tmp_path: Path) -> None:
    config = load(conf)
    store, target = make_store(config), make_target(config)
    assert isinstance(store, FileStore)
    assert store.path == tmp_path / "store"
    assert isinstance(target, TgtTarget)
    target.close()


def test_imports_and_seals(cli: Cli, source: Path, tmp_path: Path) -> None:
    code, out, err = cli("import", "win10", source)
    assert code == 0
    assert out.startswith("win10@1: 5.2 MB, sealed, digest ")
    assert "import disk.raw" in err
    assert "seal win10@1" in err
    raw = tmp_path / "store/images/win10/1.raw"
    assert raw.read_bytes() == source.read_bytes()
    assert raw.stat().st_mode & 0o777 == 0o400


def test_imports_and_seals_later(cli: Cli, source: Path) -> None:
    assert cli("import", "win10", source, "--no-seal")[:2] == (0, "win10@1: 5.2 MB, not sealed\n")
    assert parsed(cli("list", "--json"))[0]["sealed"] is False
    assert "no" in cli("list")[1]
    code, out, _ = cli("seal", "win10")
    assert (code, out[:17]) == (0, "win10@1: 5.2 MB, ")
    assert parsed(cli("seal", "win10@1", "--json"))["sealed"] is True


def test_is_for_programs_too(cli: Cli, source: Path) -> None:
    image = parsed(cli("import", "win10", source, "--json"))
    assert image["ref"] == "win10@1"
    assert (image["name"], image["version"], image["size"]) == ("win10", 1, 5 << 20)
    assert len(image["digest"]) == 64
    assert parsed(cli("list", "--json")) == [image]
    assert parsed(cli("delete", "win10@1", "--json")) == {"deleted": "win10@1"}
    assert parsed(cli("list", "--json")) == []


def test_lists_who_uses_what_beside_a_running_service(cli: Cli, conf: Path, source: Path) -> None:
    assert cli("list")[1].startswith("no images; make one: zfsiscsi image import")
    cli("import", "win10", source)
    store = make_store(load(conf))
    store.open()
    swap(store)
    spare(store, "pc2")
    image = parsed(cli("list", "--json"))[0]
    assert image["users"] == ["pc1", "pc2"]
    table = cli("list")[1]
    assert image["digest"][:12] in table
    assert "pc1, pc2" in table
    code, _, err = cli("delete", "win10@1")
    assert code == 1
    assert err.startswith("error: image win10@1 is in use by pc1, pc2\nfix: ")
    assert parsed(cli("import", "win10", source, "--json"))["version"] == 2
    assert cli("delete", "win10@2")[:2] == (0, "win10@2 is deleted\n")
    store.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "win10", "/nowhere/disk.qcow2"], "error: can't read /nowhere/disk.qcow2: "),
        (["import", "../win10", "SOURCE"], "error: '../win10' can't be an image's name"),
        (["import", "win10", "/"], "error: / is not a disk file"),
        (["seal", "win10"], "error: no image win10"),
        (["delete", "win10@1"], "error: no image win10@1"),
        (["delete", "win10@x"], "error: 'win10@x' is no image"),
    ],
)
def test_mistakes_are_one_line_and_a_fix(
    cli: Cli, source: Path, arguments: list[str], message: str
) -> None:
    code, out, err = cli(*[str(source) if word == "SOURCE" else word for word in arguments])
    assert (code, out) == (1, "")
    error, fix = [line for line in err.splitlines() if line.startswith(("error:", "fix:"))]
    assert error.startswith(message)
    assert fix.startswith("fix: ")


def test_a_file_that_is_cut_off_changes_nothing(cli: Cli, source: Path, tmp_path: Path) -> None:
    qcow2 = tmp_path / "disk.qcow2"
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(source), str(qcow2)]
    subprocess.run(argv, check=True)
    os.truncate(qcow2, qcow2.stat().st_size - 100_000)
    code, _, err = cli("import", "win10", qcow2)
    assert code == 1
    assert "is damaged or cut off" in err
    assert parsed(cli("list", "--json")) == []


def test_from_the_shell(conf: Path, source: Path) -> None:
    argv = [sys.executable, "-m", "cuckoo_zfsiscsi", "--conf", str(conf), "image"]
    done = subprocess.run(
        [*argv, "import", "win10", str(source), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["ref"] == "win10@1"
