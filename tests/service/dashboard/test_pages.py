"""What pages say, and what buttons do."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from cuckoo_zfsiscsi.disk.store import Evidence
from cuckoo_zfsiscsi.errors import PowerError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service.dashboard import feed
from cuckoo_zfsiscsi.service.report import State
from tests.clocks import RealClock
from tests.service.dashboard.conftest import host, log_in
from tests.service.fakes import World
from tests.service.one_host import OneHost
from tests.service.waiting import quiet, wait_for
from tests.waiting import HANG

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def run(one: OneHost, task: str) -> None:
    host(one).start(task, None).booted.result(HANG)
    host(one).stop().result(HANG)
    quiet(host(one), State.CLEAN)


def test_all_hosts(client: TestClient, one: OneHost) -> None:
    quiet(host(one), State.CLEAN)
    log_in(client)
    page = client.get("/").text
    for words in ("pc1", "clean", "win10@1", "<b>1</b> hosts"):
        assert words in page


def test_one_host(client: TestClient, one: OneHost, world: World) -> None:
    quiet(host(one), State.CLEAN)
    world.kept = [Evidence("pc1-g1", "pc1", 1, "win10@1", 12.0, 3 << 20, 2 << 20, "tank/x")]
    run(one, "77")
    log_in(client)
    page = client.get("/hosts/pc1").text
    for words in (
        "win10@1, generation 2", "77", "swap", "login", "recovery", "pc1-g1", "3.1 MB",
        "off: it is (fake://)", "a clean disk is in place", "10.99.0.11",
    ):  # fmt: skip
        assert words in page, words
    part = client.get("/hosts/pc1/live").text
    assert part.strip() in page
    assert "<html" not in part
    missing = client.get("/hosts/pc9")
    assert missing.status_code == 404
    assert "no host &#39;pc9&#39; here" in missing.text
    assert "zfsiscsi hosts" in missing.text


def test_what_was_seen_in_a_run(client: TestClient, one: OneHost, world: World) -> None:
    quiet(host(one), State.CLEAN)
    host(one).start("77", None).booted.result(HANG)
    world.answers.discard("agent")
    host(one).stop().result(HANG)
    (told,) = host(one).report().seen
    log_in(client)
    assert told in client.get("/hosts/pc1").text


def test_storage(client: TestClient, one: OneHost, world: World) -> None:
    quiet(host(one), State.CLEAN)
    world.kept = [Evidence("pc1-g1", "pc1", 1, "win10@1", 12.0, 3 << 20, 2 << 20, "tank/x")]
    log_in(client)
    page = client.get("/storage").text
    for words in ("win10@1", "40 %", "42.9 GB", "pc1-g1", "clean disks stand by"):
        assert words in page, words
    assert client.get("/storage/live").text.strip() in page


def test_what_guests_and_devices_say_is_only_text(
    client: TestClient, one: OneHost, world: World
) -> None:
    quiet(host(one), State.CLEAN)
    world.kept = [Evidence(EVIL, "pc1", 1, EVIL, 12.0, 0, 0, "tank/x")]
    run(one, EVIL)
    world.fail["off"] = PowerError(EVIL, fix=EVIL)
    host(one).reset()
    wait_for(host(one), State.QUARANTINED)
    form = log_in(client)
    world.fail["status"] = PowerError(EVIL, fix=EVIL)
    asked = client.post("/hosts/pc1/power", data={"form": form})
    assert asked.status_code == 502
    shown = [client.get(path).text for path in ("/", "/hosts/pc1", "/storage")]
    for page in (*shown, asked.text):
        assert "&lt;script&gt;" in page
        assert "<script>alert" not in page
        assert "<img" not in page


def test_buttons(client: TestClient, one: OneHost, world: World, clock: RealClock) -> None:
    quiet(host(one), State.CLEAN)
    form = {"form": log_in(client)}
    done = client.post("/hosts/pc1/maintenance", data={**form, "on": "yes"})
    assert (done.status_code, done.headers["location"]) == (303, "/hosts/pc1")
    quiet(host(one), State.MAINTENANCE)
    page = client.get("/hosts/pc1").text
    assert "taken out of service" in page
    assert "taken out of service" not in client.get("/hosts/pc1").text, "a message is shown once"
    refused = client.post("/hosts/pc1/reset", data=form)
    assert refused.status_code == 409
    assert "in maintenance" in refused.text
    assert client.post("/hosts/pc1/maintenance", data={**form, "on": "no"}).status_code == 303
    quiet(host(one), State.CLEAN)
    before = world.journal.count("swap")
    assert client.post("/hosts/pc1/reset", data=form).status_code == 303
    clock.until(
        lambda: world.journal.count("swap") == before + 1, "the reset", lambda: world.journal
    )
    quiet(host(one), State.CLEAN)
    assert client.post("/hosts/pc1/power", data=form).status_code == 303
    assert f"says: {PowerState.OFF.value}" in client.get("/hosts/pc1").text
    assert client.post("/hosts/pc9/reset", data=form).status_code == 404
    assert client.get("/hosts/pc1/reset").status_code == 401


def test_viewers_are_not_too_many(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MOST", 0)
    log_in(client)
    assert client.get("/events").status_code == 503


def test_the_reference_is_complete_and_needs_nothing(client: TestClient) -> None:
    page = client.get("/docs").text
    for path, verbs in client.get("/openapi.json").json()["paths"].items():
        for verb in verbs:
            assert f"{verb.upper()} {path}</code>" in page
    assert "name or name@version" in page
    assert "http://" not in page
    assert "https://" not in page
