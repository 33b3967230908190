"""The control API over a host that fails on command."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import pytest
from fastapi.testclient import TestClient

from cuckoo_zfsiscsi.config import Config, load
from cuckoo_zfsiscsi.errors import UnknownHostError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service.api import make_api
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.report import State
from tests.service.conftest import EXAMPLE, Make
from tests.service.fakes import World
from tests.service.waiting import quiet, wait_for

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.service.fleet import Fleet

TOKEN = "a token of the test"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class OneHost:
    """What the API needs of a fleet."""

    def __init__(self, host: Host) -> None:
        self.config: Config = load(EXAMPLE)
        self._host = host

    def hosts(self) -> list[Host]:
        return [self._host]

    def host(self, label: str) -> Host:
        if label != self._host.config.label:
            raise UnknownHostError(f"no host {label!r} here", fix="zfsiscsi hosts")
        return self._host


@pytest.fixture
def host(make: Make) -> Host:
    return make()


@pytest.fixture
def client(host: Host) -> TestClient:
    return TestClient(make_api(cast("Fleet", OneHost(host)), TOKEN), headers=BEARER)


def post(client: TestClient, verb: str, **body: Any) -> Any:
    label = "pc1"
    return client.post(f"/v1/hosts/{label}/{verb}", json=body)


def check_problem(answer: Any, status: int, *words: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "fix", "host"}
    assert body["status"] == status
    for word in words:
        assert word in str(body)


def test_hosts(client: TestClient, host: Host) -> None:
    quiet(host, State.CLEAN)
    shown = client.get("/v1/hosts").json()
    assert shown == [client.get("/v1/hosts/pc1").json()]
    assert {
        "label": "pc1",
        "state": "clean",
        "reason": "",
        "generation": 1,
        "run": False,
        "last_boot": None,
    }.items() <= shown[0].items()


def test_start_and_stop(client: TestClient, world: World) -> None:
    report = post(client, "start", timeout=5, task="7").json()
    assert {"host": "pc1", "generation": 1, "image": "win10@1", "ready": True}.items() <= (
        report.items()
    )
    assert {"fence", "swap", "prove", "arm", "power", "login", "rpc", "agent"} <= set(
        report["stages"]
    )
    assert report["recovery_s"] > 0
    assert client.get("/v1/hosts/pc1").json()["task"] == "7"
    check_problem(post(client, "start"), 409, "has a run", "zfsiscsi stop pc1")
    assert post(client, "stop").json()["run"] is False
    assert world.power is PowerState.OFF


def test_start_times_out(client: TestClient, host: Host, world: World) -> None:
    world.boots = False
    check_problem(post(client, "start", timeout=0.2), 504, "not ready", "booting")
    quiet(host, State.CLEAN)
    assert world.power is PowerState.OFF


def test_stop_during_start(client: TestClient, host: Host, world: World) -> None:
    world.boots = False
    answers: list[Any] = []
    starter = threading.Thread(target=lambda: answers.append(post(client, "start", timeout=5)))
    starter.start()
    wait_for(host, State.BOOTING)
    assert post(client, "stop", timeout=5).status_code == 200
    starter.join(5)
    check_problem(answers[0], 409, "stop was asked for")


def test_stop_that_can_not_be_proved(client: TestClient, world: World) -> None:
    post(client, "start")
    world.stuck_on = True
    check_problem(post(client, "stop", timeout=0.2), 503, "quarantined", "zfsiscsi reset pc1")


def test_stop_that_takes_too_long(client: TestClient, host: Host, world: World) -> None:
    quiet(host, State.CLEAN)
    post(client, "start")
    hold = threading.Event()
    world.before["off"] = lambda: hold.wait(10)
    check_problem(post(client, "stop", timeout=0.1), 504, "not yet proved off")
    hold.set()
    quiet(host, State.QUARANTINED)


def test_reset_and_maintenance(client: TestClient, host: Host) -> None:
    quiet(host, State.CLEAN)
    assert post(client, "reset").status_code == 200
    quiet(host, State.CLEAN)
    assert post(client, "maintenance", on=True).status_code == 200
    quiet(host, State.MAINTENANCE)
    check_problem(post(client, "start"), 409, "zfsiscsi maintenance pc1 off")
    assert post(client, "power", action="on").json() == {"host": "pc1", "power": "on"}
    assert post(client, "power", action="status").json() == {"host": "pc1", "power": "on"}


def test_power_of_a_host_in_service(client: TestClient, host: Host) -> None:
    quiet(host, State.CLEAN)
    check_problem(post(client, "power", action="on"), 409, "in service")


@pytest.mark.parametrize(
    "body",
    [{"timeout": -1}, {"timeout": 1e9}, {"timeout": "x"}, {"tiemout": 1}, {"task": "x" * 1000}],
)
def test_bad_bodies(client: TestClient, body: dict[str, Any]) -> None:
    check_problem(client.post("/v1/hosts/pc1/start", json=body), 422, "body")


def test_unknown_things(client: TestClient) -> None:
    check_problem(client.get("/v1/hosts/pc9"), 404, "no host 'pc9'", "zfsiscsi hosts")
    check_problem(client.get("/nothing"), 404)
    check_problem(client.delete("/v1/hosts"), 405)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN[:-1]])
def test_token(host: Host, header: str) -> None:
    client = TestClient(make_api(cast("Fleet", OneHost(host)), TOKEN))
    headers = {"Authorization": header} if header else {}
    for path in ("/v1/hosts", "/v1/hosts/pc1", "/nothing"):
        check_problem(client.get(path, headers=headers), 401, "token")
    assert client.get("/openapi.json").status_code == 200
    assert client.get("/docs").status_code == 200


def test_a_unix_socket_needs_no_token(host: Host) -> None:
    client = TestClient(make_api(cast("Fleet", OneHost(host)), None))
    assert client.get("/v1/hosts").status_code == 200
