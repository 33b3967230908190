"""The plugin in environments as CAPE has them: real ones, with and without a pip of their own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from cuckoo_zfsiscsi import __version__
from cuckoo_zfsiscsi.cape import plugin
from cuckoo_zfsiscsi.cape.client import Client, ServiceError
from cuckoo_zfsiscsi.errors import PluginError
from tests.cape import wheel
from tests.cape.service import Service, answer, refuse
from tests.waiting import HANG

NOBODY = 65534
REQUESTS = ("requests", "urllib3", "certifi", "idna", "charset_normalizer")


def make_environment(folder: Path, *options: str) -> Path:
    """Make an environment that has requests, as CAPE's has; return its interpreter."""
    subprocess.run(
        [sys.executable, "-m", "venv", *options, str(folder)], check=True, timeout=2 * HANG
    )
    (site,) = folder.glob("lib/python3*/site-packages")
    for name in REQUESTS:
        spec = find_spec(name)
        assert spec
        assert spec.origin
        shutil.copytree(Path(spec.origin).parent, site / name)
    return folder / "bin/python"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Make one that every user can read."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture(scope="module")
def with_pip(folder: Path) -> Path:
    return make_environment(folder / "with-pip")


@pytest.fixture(scope="module")
def without_pip(folder: Path) -> Path:
    return make_environment(folder / "without-pip", "--without-pip")


@pytest.fixture
def client(service: Service, token_file: Path) -> Client:
    offer(service, wheel.make())
    return Client(service.url, str(token_file))


def offer(service: Service, content: bytes, **changes: str) -> None:
    """Have the service offer a wheel."""
    offered = {"name": plugin.NAME, "version": __version__, "url": f"/plugin/{plugin.WHEEL}"}
    offered["sha256"] = hashlib.sha256(content).hexdigest()
    service.acts["/plugin/"] = answer(200, {**offered, **changes})
    service.acts[f"/plugin/{plugin.WHEEL}"] = answer(200, content)


def where(python: Path) -> Path:
    """Return where an interpreter has the plugin."""
    program = "import cuckoo_zfsiscsi.cape.client as c; print(c.__file__)"
    done = subprocess.run(
        [str(python), "-I", "-c", program], check=True, capture_output=True, text=True, cwd="/"
    )
    return Path(done.stdout.strip())


@pytest.mark.parametrize("kind", ["with_pip", "without_pip"])
def test_install_and_back(
    kind: str, request: pytest.FixtureRequest, service: Service, client: Client
) -> None:
    python: Path = request.getfixturevalue(kind)
    assert plugin.install(python, client)
    assert where(python).is_relative_to(python.parent.parent)
    fetched = len(service.calls)
    assert not plugin.install(python, client), "it is there"
    assert len(service.calls) == fetched + 1, "fetched for nothing"
    offer(service, wheel.make("changed, with the same version"))
    assert plugin.install(python, client)
    assert plugin.uninstall(python)
    assert not plugin.uninstall(python), "it is gone"
    with pytest.raises(subprocess.CalledProcessError):
        where(python)


def test_it_belongs_to_the_owner_of_the_environment(
    folder: Path,
    with_pip: Path,
    without_pip: Path,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Root runs nothing of another user's, and leaves nothing there that he can't change."""
    theirs = folder / "theirs"
    shutil.copytree(without_pip.parent.parent, theirs, symlinks=True)
    for path in [theirs, *theirs.rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    ran = folder / "ran"
    ran.mkdir()
    ran.chmod(0o777)
    (site,) = theirs.glob("lib/python3*/site-packages")
    (site / "tell.pth").write_text(f"import os; open(f'{ran}/{{os.geteuid()}}', 'w').close()\n")
    monkeypatch.setattr(sys, "executable", str(with_pip))  # one that nobody may run
    assert plugin.install(theirs / "bin/python", client)
    assert {path.name for path in ran.iterdir()} == {str(NOBODY)}
    assert where(theirs / "bin/python").stat().st_uid == NOBODY


def test_a_damaged_wheel_is_not_installed(
    without_pip: Path, service: Service, client: Client
) -> None:
    offer(service, wheel.make(), sha256=64 * "0")
    with pytest.raises(PluginError, match="not what its sha256 says"):
        plugin.install(without_pip, client)
    with pytest.raises(subprocess.CalledProcessError):
        where(without_pip)


def test_another_version(without_pip: Path, service: Service, client: Client) -> None:
    offer(service, b"", version="9.9")
    with pytest.raises(PluginError, match=rf"version 9\.9, this command {__version__}") as caught:
        plugin.install(without_pip, client)
    assert "deploy/install" in caught.value.fix


def test_a_service_without_the_wheel(without_pip: Path, service: Service, client: Client) -> None:
    missing = refuse(404, "plugin", "x.whl can't be read", "deploy/install makes it")
    service.acts["/plugin/"] = missing
    with pytest.raises(ServiceError, match=r"can't be read.*deploy/install makes it"):
        plugin.install(without_pip, client)
    offer(service, wheel.make())
    assert plugin.install(without_pip, client)
    service.acts["/plugin/"] = missing
    assert not plugin.install(without_pip, client), "it was put there by hand"
    plugin.uninstall(without_pip)
    service.acts["/plugin/"] = answer(200, {"name": 1})
    with pytest.raises(ServiceError, match="no plugin"):
        plugin.install(without_pip, client)


def test_what_is_no_interpreter(client: Client, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\necho something odd >&2; exit 3\n")
    (tmp_path / "script").chmod(0o755)
    for name, said in {"none": "No such file", "script": "something odd"}.items():
        with pytest.raises(PluginError, match=said) as caught:
            plugin.install(tmp_path / name, client)
        assert "--cape-python" in caught.value.fix


def test_what_is_missing_in_our_own_environment(
    without_pip: Path, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(without_pip))
    with pytest.raises(PluginError, match="No module named pip") as caught:
        plugin.install(without_pip, client)
    assert caught.value.fix == f"{without_pip} -m ensurepip --upgrade"
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\necho no such option: --python >&2; exit 2\n")
    old.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(old))
    with pytest.raises(PluginError) as caught:
        plugin.install(without_pip, client)
    assert caught.value.fix == f"{old} -m pip install --upgrade pip"


def test_which_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plugin.find_python(tmp_path, None) is None
    own = tmp_path / ".venv/bin/python"
    own.parent.mkdir(parents=True)
    own.symlink_to("/usr/bin/python3")
    assert plugin.find_python(tmp_path, None) == own, "where the link leads is not CAPE's"
    monkeypatch.chdir(tmp_path)
    assert plugin.find_python(Path(), Path("other")) == tmp_path / "other"
