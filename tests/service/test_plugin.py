"""The service's own wheel: there for everybody, and nothing beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from fastapi.testclient import TestClient

from cuckoo_zfsiscsi import __version__
from cuckoo_zfsiscsi.service.api import make_api
from cuckoo_zfsiscsi.service.plugin import WHEEL
from tests.clocks import RealClock
from tests.service.conftest import Make
from tests.service.one_host import OneHost

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.service.fleet import Fleet


@pytest.fixture
def clock() -> RealClock:
    return RealClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plugin").mkdir()
    (tmp_path / "secret").write_text("nobody's business")
    return tmp_path / "plugin"


@pytest.fixture
def client(make: Make, tmp_path: Path, folder: Path) -> TestClient:
    """Ask without a token."""
    return TestClient(make_api(cast("Fleet", OneHost(make(), tmp_path)), "a-token", folder))


def test_it_is_told_and_given_without_a_token(client: TestClient, folder: Path) -> None:
    (folder / WHEEL).write_bytes(b"a wheel")
    told = client.get("/plugin/").json()
    assert told == {
        "name": "cuckoo-zfsiscsi",
        "version": __version__,
        "sha256": hashlib.sha256(b"a wheel").hexdigest(),
        "url": f"/plugin/cuckoo_zfsiscsi-{__version__}-py3-none-any.whl",
    }
    assert client.get(told["url"]).content == b"a wheel"
    assert client.get("/v1/hosts").status_code == 401


def test_a_checkout_has_none(client: TestClient, folder: Path) -> None:
    for path in ("/plugin/", f"/plugin/{WHEEL}"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "deploy/install" in answer.json()["fix"]
        assert f"--wheel-dir {folder} ." in answer.json()["fix"]


@pytest.mark.parametrize(
    "path",
    ["/plugin/other.whl", "/plugin/../secret", "/plugin/%2e%2e/secret", "/plugin/..%2fsecret",
     f"/plugin/{WHEEL}/../../secret", f"/plugin//{WHEEL}", "/plugin/%2fetc%2fpasswd", "/plugin"],
)  # fmt: skip
def test_nothing_else_is(client: TestClient, folder: Path, path: str) -> None:
    (folder / WHEEL).write_bytes(b"a wheel")
    (folder / "other.whl").write_bytes(b"another")
    answer = client.get(path, follow_redirects=False)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
