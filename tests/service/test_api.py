"""The control API over a host that fails on command."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from fastapi.testclient import TestClient

from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service.api import make_api
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.report import State
from tests.clocks import RealClock
from tests.service.conftest import Make
from tests.service.fakes import World
from tests.service.one_host import OneHost
from tests.service.waiting import boot_within, quiet, wait_for
from tests.waiting import HANG

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.service.fleet import Fleet

TOKEN = "a token of the test"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def clock() -> RealClock:
    """Go by the real one: requests are waited for by an event loop, whose time is real."""
    return RealClock()


@pytest.fixture
def host(make: Make) -> Host:
    return make()


@pytest.fixture
def client(host: Host, tmp_path: Path) -> TestClient:
    return TestClient(make_api(cast("Fleet", OneHost(host, tmp_path)), TOKEN), headers=BEARER)


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


def test_what_cape_is_told(client: TestClient) -> None:
    """All that CAPE needs, and nothing of power or netboot."""
    told = client.get("/v1/cape").json()
    assert told == {
        "interface": "br-lab",
        "networks": [
            {
                "network": "10.99.0.0/24",
                "portal": "10.99.0.1",
                "ports": [3271],
                "section": "netboot",
                "gateways": ["10.99.0.1"],
                "hosts": ["pc1"],
            }
        ],
        "start_timeout": 300.0,
        "stop_timeout": 60.0,
        "hosts": [
            {
                "label": "pc1",
                "platform": "windows",
                "ip": "10.99.0.11",
                "arch": "x64",
                "tags": "win10,x64",
                "snapshot": "win10",
            }
        ],
    }


def test_start_and_stop(client: TestClient, world: World) -> None:
    report = post(client, "start", timeout=HANG, task="7").json()
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


def test_what_was_seen_in_a_run(host: Host, world: World, tmp_path: Path) -> None:
    client = TestClient(make_api(cast("Fleet", OneHost(host, tmp_path)), None))
    assert post(client, "start", timeout=HANG, task="7").status_code == 200
    world.answers.discard("agent")
    for answer in (post(client, "stop"), post(client, "stop"), client.get("/v1/hosts/pc1")):
        (told,) = answer.json()["seen"]
        assert told.startswith("its agent did not answer at the end")
    assert [run["seen"] for run in client.get("/v1/runs").json()] == [[told]]
    world.answers.add("agent")
    assert post(client, "start", timeout=HANG, task="8").status_code == 200
    assert client.get("/v1/hosts/pc1").json()["seen"] == []
    assert post(client, "stop").json()["seen"] == []
    assert [run["seen"] for run in client.get("/v1/runs").json()] == [[], [told]]


def test_runs(host: Host, world: World, tmp_path: Path) -> None:
    fleet = OneHost(host, tmp_path)
    client = TestClient(make_api(cast("Fleet", fleet), None))
    for task in ("7", "8"):
        assert post(client, "start", task=task).status_code == 200
        assert post(client, "stop").status_code == 200
    world.boots = False
    post(client, "start", timeout=0.1, task="9")
    assert [run["task"] for run in client.get("/v1/runs").json()] == ["8", "7"]
    (run,) = client.get("/v1/runs?task=7").json()
    assert (run["host"], run["generation"], run["evidence"]) == ("pc1", 1, "pc1-g1")
    assert run["ended"] >= run["began"]
    check_problem(client.get("/v1/runs?limit=0"), 422, "limit")


def test_history(client: TestClient, host: Host, world: World, clock: RealClock) -> None:
    assert post(client, "start", task="7").status_code == 200
    assert post(client, "stop").status_code == 200
    quiet(host, State.CLEAN)
    kinds = [event["kind"] for event in client.get("/v1/history").json()]
    assert kinds[:4] == ["reset", "power", "boot", "power"]
    (boot,) = client.get("/v1/history?kind=boot&host=pc1").json()
    assert (boot["ok"], boot["generation"], boot["image"]) == (True, 1, "win10@1")
    assert {"fence", "arm", "login", "rpc", "agent", "recovery"} <= set(boot["stages"])
    assert client.get("/v1/history?host=pc2").json() == []
    world.boots = False
    post(client, "start", timeout=0.1)

    def boots() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = client.get("/v1/history?kind=boot&limit=1").json()
        return found

    clock.until(lambda: not boots()[0]["ok"], "a boot that was given up is on record", boots)
    check_problem(client.get("/v1/history?kind=nonsense"), 422, "kind")


def test_metrics(client: TestClient, host: Host) -> None:
    quiet(host, State.CLEAN)
    told = client.get("/metrics")
    assert told.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'zfsiscsi_host_state{host="pc1",state="clean"} 1.0' in told.text


def test_start_times_out(client: TestClient, host: Host, world: World) -> None:
    quiet(host, State.CLEAN)
    world.boots = False
    check_problem(post(client, "start", timeout=1.0), 504, "not ready", "booting")
    quiet(host, State.CLEAN)
    assert world.power is PowerState.OFF


def test_stop_during_start(client: TestClient, host: Host, world: World) -> None:
    world.boots = False
    answers: list[Any] = []
    starter = threading.Thread(target=lambda: answers.append(post(client, "start", timeout=HANG)))
    starter.start()
    wait_for(host, State.BOOTING)
    assert post(client, "stop", timeout=HANG).status_code == 200
    starter.join(HANG)
    check_problem(answers[0], 409, "stop was asked for")


@pytest.fixture
def lasting(client: TestClient) -> Iterator[TestClient]:
    """Keep one event loop beyond each request, as a server does."""
    with client:
        yield client


def poll(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/hosts/pc1").json()
    return found


def test_start_without_waiting(
    lasting: TestClient, host: Host, world: World, clock: RealClock
) -> None:
    quiet(host, State.CLEAN)
    world.boots = False
    answer = post(lasting, "start", wait=False, task="7")
    assert answer.status_code == 202
    assert answer.json().keys() == poll(lasting).keys()
    assert (answer.json()["run"], answer.json()["task"]) == (True, "7")
    wait_for(host, State.BOOTING)
    assert (poll(lasting)["state"], poll(lasting)["step"]) == ("booting", "booting")
    check_problem(post(lasting, "start", wait=False), 409, "has a run")
    world.boots = True
    post(lasting, "stop")
    quiet(host, State.CLEAN)
    assert post(lasting, "start", wait=False).status_code == 202
    clock.until(lambda: poll(lasting)["state"] == "running", "it runs", host.report)
    found = poll(lasting)
    assert (found["run"], found["start_error"], found["last_boot"]["ready"]) == (True, "", True)


def test_a_poller_is_told_why_there_is_no_run(
    lasting: TestClient,
    host: Host,
    world: World,
    clock: RealClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    quiet(host, State.CLEAN)
    world.boots = False

    def error_of(**body: object) -> str:
        assert post(lasting, "start", wait=False, **body).status_code == 202
        clock.until(lambda: not poll(lasting)["run"], "it is given up", host.report)
        return str(poll(lasting)["start_error"])

    assert error_of(timeout=0.5).startswith("pc1 was not ready after 0 s: still ")
    quiet(host, State.CLEAN)
    assert poll(lasting)["start_error"], "it stays until the next start"
    assert post(lasting, "start", wait=False).json()["start_error"] == ""
    post(lasting, "stop")
    assert poll(lasting)["start_error"] == "pc1: stop was asked for"
    quiet(host, State.CLEAN)
    boot_within(host, 0.5)
    error = error_of()
    assert "no dhcp (fix: the host did not ask for an address" in error
    assert poll(lasting)["reason"] == error, "a boot that fails is a reason for quarantine"
    assert "never retrieved" not in caplog.text


def test_stop_that_can_not_be_proved(client: TestClient, world: World) -> None:
    post(client, "start")
    world.stuck_on = True
    check_problem(post(client, "stop", timeout=0.2), 503, "quarantined", "zfsiscsi reset pc1")


def test_stop_that_takes_too_long(client: TestClient, host: Host, world: World) -> None:
    quiet(host, State.CLEAN)
    post(client, "start")
    hold = threading.Event()
    world.before["off"] = lambda: hold.wait(HANG)
    check_problem(post(client, "stop", timeout=0.1), 503, "quarantined", "not yet proved off")
    assert not hold.is_set(), "it has waited for the proof"
    check_problem(post(client, "start"), 503, "quarantined", "not yet proved off")
    world.before.clear()
    hold.set()
    quiet(host, State.CLEAN)
    assert world.journal.count("on") == 1, "it was only late: no boot has to show that it works"
    assert post(client, "start").status_code == 200


def test_reset_and_maintenance(client: TestClient, host: Host) -> None:
    quiet(host, State.CLEAN)
    assert post(client, "reset").status_code == 200
    quiet(host, State.CLEAN)
    assert post(client, "maintenance", on=True).status_code == 200
    quiet(host, State.MAINTENANCE)
    check_problem(post(client, "start"), 409, "zfsiscsi maintenance pc1 off")
    done = post(client, "power", action="on").json()
    told = {"host": "pc1", "power": "on", "peer": "fake://", "proof": "it is"}
    assert told.items() <= done.items()
    state = post(client, "power", action="status").json()
    assert (state["host"], state["power"]) == ("pc1", "on")


def test_edit(client: TestClient, host: Host, world: World, clock: RealClock) -> None:
    quiet(host, State.CLEAN)
    assert post(client, "edit", image="win10").status_code == 200
    clock.until(lambda: world.is_up, "booted from the draft", host.report)
    assert client.get("/v1/hosts/pc1").json()["image"] == "win10@2"
    check_problem(post(client, "edit"), 422, "body")
    evil = "http://x/y\nreboot"
    check_problem(post(client, "edit", image="win10", installer=evil), 422, "installer")
    check_problem(post(client, "edit", image="win10", medium="../store"), 422, "medium")
    unknown = post(client, "edit", image="win10", medium="0123456789abcdef")
    check_problem(unknown, 500, "nothing is prepared", "zfsiscsi image install")


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
def test_token(host: Host, header: str, tmp_path: Path) -> None:
    client = TestClient(make_api(cast("Fleet", OneHost(host, tmp_path)), TOKEN))
    headers = {"Authorization": header} if header else {}
    for path in ("/v1/hosts", "/v1/hosts/pc1", "/v1/history", "/metrics", "/nothing"):
        check_problem(client.get(path, headers=headers), 401, "token")
    assert client.get("/openapi.json").status_code == 200


def test_pages_in_a_browser_are_refused(client: TestClient) -> None:
    """A browser names the page that a request comes from; no client of ours does."""
    answer = client.post("/v1/hosts/pc1/reset", headers={"Origin": "http://localhost"})
    check_problem(answer, 403, "dashboard")


def test_a_unix_socket_needs_no_token(host: Host, tmp_path: Path) -> None:
    client = TestClient(make_api(cast("Fleet", OneHost(host, tmp_path)), None))
    assert client.get("/v1/hosts").status_code == 200


def test_boots(client: TestClient, host: Host, world: World) -> None:
    assert post(client, "start", task="7").status_code == 200
    world.boots = False
    post(client, "stop")
    quiet(host, State.CLEAN)
    (boot,) = client.get("/v1/hosts/pc1/boots").json()
    assert (boot["ready"], boot["stalled"], boot["generation"]) == (True, "", 1)
    assert {"login", "rpc", "agent"} <= set(boot["stages"])
    boot_within(host, 1.0)
    assert post(client, "start").status_code == 504
    newest, oldest = client.get("/v1/hosts/pc1/boots").json()
    assert oldest == boot
    assert not newest["ready"]
    assert newest["stalled"].startswith("no dhcp: the host did not ask for an address")
    assert len(client.get("/v1/hosts/pc1/boots?limit=1").json()) == 1
    check_problem(client.get("/v1/hosts/pc9/boots"), 404, "pc9")
