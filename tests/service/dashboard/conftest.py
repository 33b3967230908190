"""The dashboard over one host that fails on command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from fastapi.testclient import TestClient
from starlette.applications import Starlette

from cuckoo_zfsiscsi.service.api import make_api
from cuckoo_zfsiscsi.service.attempts import Attempts
from cuckoo_zfsiscsi.service.dashboard.app import make_app
from cuckoo_zfsiscsi.service.dashboard.feed import Feed
from cuckoo_zfsiscsi.service.host import Host
from tests.clocks import RealClock
from tests.service.conftest import Make
from tests.service.one_host import OneHost

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.service.fleet import Fleet

TOKEN = "a token of the test"
PAUSE = 0.01
"""Seconds that the answer to the first wrong one takes."""


def application(one: object, token: str | None = TOKEN) -> Starlette:
    fleet = cast("Fleet", one)
    attempts = Attempts(first=PAUSE)
    return make_app(fleet, make_api(fleet, token, attempts=attempts), token, Feed(fleet), attempts)


@pytest.fixture
def clock() -> RealClock:
    """Go by the real one: who watches is a real browser, or an event loop whose time is real."""
    return RealClock()


@pytest.fixture
def one(make: Make, tmp_path: Path) -> OneHost:
    made = OneHost(make(begin=False), tmp_path)
    host(made).open()
    return made


def host(one: OneHost) -> Host:
    return one.hosts()[0]


@pytest.fixture
def client(one: OneHost) -> TestClient:
    return TestClient(application(one), follow_redirects=False)


def form_of(page: str) -> str:
    """Return what a page's forms must send back."""
    found = re.search(r'name="form" value="([^"]+)"', page)
    assert found
    return found[1]


def log_in(client: TestClient) -> str:
    """Log in; return what forms must send back."""
    assert client.post("/login", data={"token": TOKEN}).status_code == 303
    return form_of(client.get("/").text)
