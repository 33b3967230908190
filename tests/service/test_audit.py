"""A line for each change, whoever asks for it."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from cuckoo_zfsiscsi.service import audit
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.report import State
from tests.service.dashboard.conftest import TOKEN, application, log_in
from tests.service.in_real_time import clock, host
from tests.service.one_host import OneHost
from tests.service.waiting import quiet

__all__ = ["clock", "host"]  # fixtures

BEARER = {"Authorization": f"Bearer {TOKEN}"}
Caplog = pytest.LogCaptureFixture


@pytest.fixture
def client(host: Host, tmp_path: Path, caplog: Caplog) -> TestClient:
    caplog.set_level(logging.INFO, logger=audit.NAME)
    return TestClient(application(OneHost(host, tmp_path)), follow_redirects=False)


def lines(caplog: Caplog) -> list[str]:
    """Return what was written, without the seconds that each took."""
    found = [one.getMessage() for one in caplog.records if one.name == audit.NAME]
    return [re.sub(r", \d+\.\d s", "", line) for line in found]


def test_what_programs_change(client: TestClient, host: Host, caplog: Caplog) -> None:
    def post(verb: str, label: str = "pc1", **body: object) -> None:
        client.post(f"/v1/hosts/{label}/{verb}", json=body, headers=BEARER)

    post("start", task="7")
    post("stop")
    quiet(host, State.CLEAN)
    post("reset")
    post("maintenance", on=True)
    quiet(host, State.MAINTENANCE)
    post("power", action="off")
    post("edit", image="win10")
    post("maintenance", on=False)
    post("start", "pc9")
    post("power", action="explode")
    begin = "who=token from=testclient what="
    assert lines(caplog) == [
        f"{begin}start host=pc1 result=\"200 OK\" asked=\"{{'task':'7'}}\"",
        f'{begin}stop host=pc1 result="200 OK" asked="{{}}"',
        f'{begin}reset host=pc1 result="200 OK"',
        f'{begin}maintenance host=pc1 result="200 OK" asked="{{\'on\':true}}"',
        f"{begin}power host=pc1 result=\"200 OK\" asked=\"{{'action':'off'}}\"",
        f"{begin}edit host=pc1 result=\"200 OK\" asked=\"{{'image':'win10'}}\"",
        f'{begin}maintenance host=pc1 result="200 OK" asked="{{\'on\':false}}"',
        f'{begin}start host=pc9 result="404 Not Found" asked="{{}}"',
        f'{begin}power host=pc1 result="422 Unprocessable Entity" '
        "asked=\"{'action':'explode'}\"",
    ]


def test_what_people_change(client: TestClient, host: Host, caplog: Caplog) -> None:
    form = log_in(client)
    for verb, fields in (("reset", {}), ("maintenance", {"on": "yes"}), ("power", {})):
        client.post(f"/hosts/pc1/{verb}", data={"form": form, **fields})
        quiet(host, State.MAINTENANCE if verb != "reset" else State.CLEAN)
    client.post("/logout", data={"form": form})
    (session,) = set(re.findall(r'who="session ([0-9a-f]{8})"', "".join(lines(caplog))))
    begin = f'who="session {session}" from=testclient what='
    assert lines(caplog) == [
        f'{begin}login result="303 See Other"',
        f'{begin}reset host=pc1 result="303 See Other"',
        f'{begin}maintenance host=pc1 result="303 See Other" asked="on yes"',
        f'{begin}power host=pc1 result="303 See Other"',
        f'{begin}logout result="303 See Other"',
    ]
    assert form not in "".join(lines(caplog))
    assert TOKEN not in "".join(lines(caplog))


def test_who_changes_nothing_has_no_line(client: TestClient, caplog: Caplog) -> None:
    client.post("/v1/hosts/pc1/reset")
    client.post("/v1/hosts/pc1/reset", headers={"Authorization": "Bearer wrong"})
    client.post("/v1/hosts/pc1/reset", headers={**BEARER, "Origin": "http://evil"})
    client.post("/hosts/pc1/reset", data={"form": "x"})
    client.post("/login", data={"token": "wrong"})
    for path in ("/v1/hosts", "/v1/hosts/pc1", "/metrics"):
        assert client.get(path, headers=BEARER).status_code == 200
    assert lines(caplog) == []
    log_in(client)
    client.post("/hosts/pc1/reset", data={"form": "x"})
    client.get("/")
    assert len(lines(caplog)) == 1


def test_a_line_is_one_line_and_forges_nothing(client: TestClient, caplog: Caplog) -> None:
    task = 'x" result="200 OK"\nwho=root \x1b[2J' + "y" * 100
    client.post("/v1/hosts/pc1/start", json={"task": task, "nonsense": "z" * 9000}, headers=BEARER)
    client.post("/v1/hosts/pc1%1B%22 who=root/reset", headers=BEARER)
    client.post("/v1/" + "x" * 5000, headers=BEARER)
    for line in lines(caplog):
        assert line.isprintable()
        assert len(line) < 500
        assert line.startswith("who=token from=testclient what=")
        assert len(re.findall(r' result="', line)) == 1
    assert len(lines(caplog)) == 3


def test_a_failure_has_a_line_too(host: Host, tmp_path: Path, caplog: Caplog) -> None:
    caplog.set_level(logging.INFO, logger=audit.NAME)
    one = OneHost(host, tmp_path)
    one.host = None  # type: ignore[assignment]
    client = TestClient(application(one), raise_server_exceptions=False)
    assert client.post("/v1/hosts/pc1/reset", headers=BEARER).status_code == 500
    (line,) = lines(caplog)
    assert 'what=reset host=pc1 result="500 Internal Server Error"' in line


def test_a_socket_without_a_token(host: Host, tmp_path: Path, caplog: Caplog) -> None:
    """Whose it is, uvicorn's protocol tells; here is none."""
    caplog.set_level(logging.INFO, logger=audit.NAME)
    app = application(OneHost(host, tmp_path), None)
    TestClient(app, base_url="http://localhost").post("/v1/hosts/pc1/reset")
    assert lines(caplog)[0].startswith("who=unknown from=testclient what=reset host=pc1 ")
