"""Who gets in, and with what."""

from __future__ import annotations

import time

from fastapi.testclient import TestClient

from cuckoo_zfsiscsi.service.report import State
from tests.service.dashboard.conftest import PAUSE, TOKEN, application, form_of, host, log_in
from tests.service.fakes import World
from tests.service.one_host import OneHost
from tests.service.waiting import quiet

PAGES = ("/", "/hosts/pc1", "/storage")
PARTS = ("/hosts/pc1/live", "/storage/live", "/events")


def test_nobody_sees_anything_without_the_token(client: TestClient) -> None:
    for path in PAGES:
        answer = client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert "pc1" not in answer.text
    for path in PARTS:
        assert client.get(path).status_code == 401
    for verb in ("reset", "maintenance", "power"):
        assert client.post(f"/hosts/pc1/{verb}").headers["location"] == "/login"
    assert client.get("/login").status_code == 200
    assert client.get("/static/style.css").status_code == 200


def test_a_session_does_not_open_the_control_api(client: TestClient) -> None:
    log_in(client)
    for path in ("/v1/hosts", "/v1/runs", "/v1/history", "/metrics"):
        assert client.get(path).status_code == 401
    assert client.post("/v1/hosts/pc1/reset").status_code == 401


def test_the_token_opens_the_api_and_no_page(client: TestClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/v1/hosts", headers=headers).status_code == 200
    assert client.get("/", headers=headers).status_code == 303


def test_wrong_token(client: TestClient) -> None:
    for number, wrong in enumerate(("", "wrong", TOKEN + "x", "\udcff", "é")):
        begin = time.monotonic()
        answer = client.post("/login", content=f"token={wrong}".encode("utf-8", "replace"))
        assert time.monotonic() - begin >= PAUSE * 2**number
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "That is not the token" in answer.text


def test_too_much_of_a_form(client: TestClient) -> None:
    assert client.post("/login", content=b"token=" + b"x" * 10_000).status_code == 401
    assert client.post("/login", content=b"token=" + b"x" * 100_000).status_code == 413
    assert client.post("/login", content=b"&".join([b"a=b"] * 50)).status_code == 401


def test_the_cookie_is_out_of_reach(client: TestClient) -> None:
    cookie = client.post("/login", data={"token": TOKEN}).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie, "plain HTTP could not send it back"
    assert TOKEN not in cookie


def test_behind_tls_the_cookie_is_for_tls_alone(one: OneHost) -> None:
    client = TestClient(application(one), base_url="https://testserver", follow_redirects=False)
    assert "Secure" in client.post("/login", data={"token": TOKEN}).headers["set-cookie"]


def test_logging_out_ends_the_session(client: TestClient) -> None:
    form = log_in(client)
    key = client.cookies["zfsiscsi"]
    assert client.post("/logout", data={"form": form}).status_code == 303
    client.cookies.set("zfsiscsi", key)
    assert client.get("/").status_code == 303


def test_forms_of_other_sites_do_nothing(client: TestClient, one: OneHost, world: World) -> None:
    quiet(host(one), State.CLEAN)
    form, journal = log_in(client), list(world.journal)
    other = TestClient(client.app, follow_redirects=False)
    for wrong in ({}, {"form": ""}, {"form": "x"}, {"form": log_in(other)}):
        for verb in ("reset", "maintenance", "power"):
            assert client.post(f"/hosts/pc1/{verb}", data=wrong).status_code == 403
        assert client.post("/logout", data=wrong).status_code == 403
    assert world.journal == journal
    assert client.post("/hosts/pc1/reset", data={"form": form}).status_code == 303


def test_a_socket_needs_no_login_but_forms_are_guarded(one: OneHost) -> None:
    quiet(host(one), State.CLEAN)
    app = application(one, None)
    client = TestClient(app, base_url="http://localhost", follow_redirects=False)
    page = client.get("/")
    assert page.status_code == 200
    assert client.post("/hosts/pc1/reset").status_code == 403
    answer = client.post("/hosts/pc1/reset", data={"form": form_of(page.text)})
    assert answer.status_code == 303
    assert client.get("/login").headers["location"] == "/"
    assert client.get("/v1/hosts").status_code == 200


def test_a_forwarded_socket_is_not_for_foreign_pages(one: OneHost) -> None:
    """DNS rebinding: another name that leads to this machine. And plain cross-site requests."""
    client = TestClient(application(one, None), base_url="http://evil.example")
    for path in ("/", "/v1/hosts", "/metrics"):
        assert client.get(path).status_code == 400
    client = TestClient(application(one, None), base_url="http://localhost")
    headers = {"Origin": "http://evil.example"}
    assert client.post("/v1/hosts/pc1/reset", headers=headers).status_code == 403


def test_headers_of_every_answer(client: TestClient) -> None:
    for path in (*PAGES, *PARTS, "/login", "/docs", "/v1/hosts", "/nothing", "/static/live.js"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        kept = path.startswith("/static/")
        assert ("no-store" in headers["cache-control"]) != kept
