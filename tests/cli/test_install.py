"""zfsiscsi image install, with a service that answers as ours would."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.cape.client import Client, ServiceError
from cuckoo_zfsiscsi.cli import run
from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.disk.store.facts import unprotect
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.netboot.medium import place
from tests.cli.test_image import CONF
from tests.disk.content import make_raw, seal
from tests.netboot.windows_iso import make_iso

Cli = Callable[..., tuple[int, str, str]]


class Service:
    """What the client would reach."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.refusal: ServiceError | None = None

    def host(self, _client: Client, label: str) -> dict[str, Any]:
        return {"label": label}

    def edit(
        self,
        _client: Client,
        label: str,
        image: str,
        installer: str | None = None,
        medium: str = "",
    ) -> dict[str, Any]:
        if self.refusal:
            raise self.refusal
        assert installer is None
        self.asked.append((label, image, medium))
        return {"label": label, "state": "maintenance"}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service()
    monkeypatch.setattr(Client, "host", lambda *words: service.host(*words))
    monkeypatch.setattr(Client, "edit", lambda *words, **named: service.edit(*words, **named))
    return service


@pytest.fixture
def conf(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "wimboot").write_bytes(b"MZ")
    path = tmp_path / "zfsiscsi.conf"
    text = CONF.format(path=tmp_path / "store", run_dir=tmp_path / "run")
    path.write_text(text.replace("[netboot]", f"[netboot]\nwimboot = {tmp_path / 'wimboot'}"))
    yield path
    for raw in tmp_path.glob("store/images/*/*.raw"):
        unprotect(raw)


@pytest.fixture
def cli(conf: Path, capfd: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = run(["--conf", str(conf), "image", "install", *map(str, arguments)])
        return (code, *capfd.readouterr())

    return call


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    return make_iso(tmp_path / "win.iso")


def test_an_empty_disk_becomes_version_1(
    cli: Cli, service: Service, conf: Path, iso: Path, tmp_path: Path
) -> None:
    code, out, err = cli("pc1", "win10", "--iso", iso, "--size", "100g")
    assert code == 0
    assert "pc1 is taken into maintenance and boots Windows' installer for win10@1." in out
    assert out.endswith("  zfsiscsi maintenance pc1 off\n  zfsiscsi image seal win10\n")
    assert "read win.iso" in err
    ((label, image, medium),) = service.asked
    assert (label, image) == ("pc1", "win10")
    assert (place(load(conf)) / medium / "boot.wim").is_file()
    raw = tmp_path / "store/images/win10/1.raw"
    assert raw.stat().st_size == 100 << 30
    assert raw.stat().st_blocks < 100
    # Once more: onto the same version, as it is
    code, out, _ = cli("pc1", "win10", "--iso", iso, "--share", "//10.99.0.1/win10")
    assert "win10@1 is not sealed yet: it is installed onto that, as it is." in out
    assert "the window on its screen" not in out
    script = (place(load(conf)) / service.asked[1][2] / "install.bat").read_text()
    assert r"net use Z: \\10.99.0.1\win10 " in script
    assert [one.ref for one in FileStore(tmp_path / "store").images()] == ["win10@1"]


def test_a_newer_version_of_an_image_that_is_in_use(
    cli: Cli, service: Service, iso: Path, tmp_path: Path
) -> None:
    store = FileStore(tmp_path / "store")
    seal(store, "win10", make_raw(tmp_path / "old"))
    code, out, _ = cli("pc1", "win10", "--iso", iso, "--json")
    assert (code, json.loads(out)) == (0, {"label": "pc1", "state": "maintenance"})
    assert [(one.ref, one.sealed) for one in store.images()] == [
        ("win10@1", True),
        ("win10@2", False),
    ]
    assert len(service.asked) == 1


def test_nothing_is_left_of_what_the_service_refused(
    cli: Cli, service: Service, conf: Path, iso: Path, tmp_path: Path
) -> None:
    service.refusal = ServiceError("pc1 is in use", fix="zfsiscsi stop pc1")
    code, _, err = cli("pc1", "win10", "--iso", iso)
    assert code == 1
    assert "pc1 is in use" in err
    assert list(place(load(conf)).iterdir()) == []
    assert FileStore(tmp_path / "store").images() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pc1", "win10", "--size", "0G"], "'0G' is no disk's size"),
        (["pc1", "win10", "--size", "64000"], "--size 64G, or 1T"),
        (["pc1", "win10", "--share", "win10"], "the share may not be used"),
        (["pc2", "win10"], "there is no host pc2"),
        (["pc1", "../win10"], "can't be an image's name"),
    ],
)
def test_mistakes(
    cli: Cli, service: Service, conf: Path, iso: Path, words: list[str], said: str
) -> None:
    code, _, err = cli(*words, "--iso", iso)
    assert (code, service.asked) == (1, [])
    assert said in err
    folder = place(load(conf))
    assert not folder.exists() or list(folder.iterdir()) == []
