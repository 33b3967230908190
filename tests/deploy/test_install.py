"""deploy/install and its lists of packages. That it installs was tried in chroots of all four."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.service.plugin import FOLDER
from tests.waiting import HANG

DEPLOY = Path(__file__).parents[2] / "deploy"


def install(*options: str) -> subprocess.CompletedProcess[str]:
    argv = [str(DEPLOY / "install"), *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=HANG, check=False)


def test_help() -> None:
    done = install("--help")
    assert done.returncode == 0
    assert "--store file|zfs" in done.stdout


@pytest.mark.parametrize("options", [["--store"], ["--store", "btrfs"], ["--sotre=zfs"], ["zfs"]])
def test_wrong_use(options: list[str]) -> None:
    done = install(*options)
    assert done.returncode == 2
    assert "--store file|zfs" in done.stderr


def test_another_distribution(tmp_path: Path) -> None:
    """It stops before it changes anything."""
    (tmp_path / "os-release").write_text('ID=fedora\nVERSION_ID="42"\n')
    script = f"mount --bind {tmp_path}/os-release /etc/os-release && exec {DEPLOY}/install"
    argv = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: this is fedora 42\nfix: ")
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["server", "zfs", "zfs-debian", "lab", "test"])
def test_lists_of_packages(name: str) -> None:
    """One a line, none twice in one list."""
    text = (DEPLOY / "packages" / name).read_text()
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    found = [line for line in lines if line]
    assert found
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", package) for package in found)
    assert len(set(found)) == len(found)


def test_the_plugin_is_built_where_the_service_looks_for_it() -> None:
    script = (DEPLOY / "install").read_text()
    (folder,) = re.findall(r'pip wheel .*--wheel-dir "\$home/(\S+)"', script)
    assert Path(sys.prefix, folder) == FOLDER, "$home is an environment, as sys.prefix is"
