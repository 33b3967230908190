from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cape import transport
from cuckoo_zfsiscsi.cape.client import Client, ServiceError
from tests.cape.service import (
    REPORT,
    TOKEN,
    Act,
    Handler,
    Service,
    answer,
    drip,
    drop,
    drop_in_the_middle,
    hang,
    hang_in_the_middle,
    host,
    refuse,
    serve,
    slowly,
)
from tests.waiting import HANG, wait


@pytest.fixture
def client(service: Service, token_file: Path) -> Client:
    return Client(service.url, str(token_file), read_timeout=20)


def test_verbs(client: Client, service: Service) -> None:
    assert client.hosts() == [host("pc1"), host("pc2")]
    assert client.host("pc2") == host("pc2")
    assert client.start("pc1", 90, task="42", image="win10@2") == REPORT
    assert client.stop("pc1", 60) == host("pc1")
    assert client.reset("pc1") == host("pc1")
    assert client.maintenance("pc1", True) == host("pc1")
    assert client.edit("pc1", "win10") == host("pc1")
    assert client.power("pc1", "status") == {"host": "pc1", "power": "off"}
    assert service.calls == [
        ("GET", "/v1/hosts", None),
        ("GET", "/v1/hosts/pc2", None),
        ("POST", "/v1/hosts/pc1/start", {"timeout": 90, "task": "42", "image": "win10@2"}),
        ("POST", "/v1/hosts/pc1/stop", {"timeout": 60}),
        ("POST", "/v1/hosts/pc1/reset", {}),
        ("POST", "/v1/hosts/pc1/maintenance", {"on": True}),
        ("POST", "/v1/hosts/pc1/edit", {"image": "win10", "installer": None, "medium": None}),
        ("POST", "/v1/hosts/pc1/power", {"action": "status"}),
    ]
    assert {headers["Authorization"] for headers in service.headers} == {f"Bearer {TOKEN}"}


def test_start_without_waiting(client: Client, service: Service) -> None:
    started = host("pc1", run=True, state="booting")
    service.acts["start"] = answer(202, started)
    assert client.start("pc1", 170, task="42", wait=False) == started
    body = {"timeout": 170, "task": "42", "image": None, "wait": False}
    assert service.calls == [("POST", "/v1/hosts/pc1/start", body)]
    service.acts["start"] = hang
    with pytest.raises(ServiceError, match="within 0 s"):
        Client(service.url, read_timeout=0.2).start("pc1", 170, wait=False)


def test_runs(client: Client, service: Service) -> None:
    service.acts["/v1/runs?task=a%26b&limit=50"] = answer(200, [{"task": "a&b"}])
    assert client.runs(task="a&b") == [{"task": "a&b"}]
    service.acts["/v1/runs?host=pc1&limit=2"] = answer(200, {})
    with pytest.raises(ServiceError, match="no list of runs"):
        client.runs(host="pc1", limit=2)


def test_history(client: Client, service: Service) -> None:
    service.acts["/v1/history?host=pc1&kind=boot&limit=50"] = answer(200, [{"kind": "boot"}])
    assert client.history(host="pc1", kind="boot") == [{"kind": "boot"}]
    service.acts["/v1/history?limit=2"] = answer(200, {})
    with pytest.raises(ServiceError, match="no list of events"):
        client.history(limit=2)


def test_a_label_can_not_be_a_path(client: Client, service: Service) -> None:
    with pytest.raises(ServiceError, match="no host"):
        client.host("../x?y")
    assert service.calls[0][1] == "/v1/hosts/..%2Fx%3Fy"


def test_unix_socket_needs_no_token(tmp_path: Path) -> None:
    with serve(tmp_path / "api.sock") as service:
        service.token = None
        client = Client(service.url)
        assert client.start("pc1", 5) == REPORT
        assert client.host("pc1") == host("pc1")
        assert "Authorization" not in service.headers[0]
        service.acts["reset"] = hang
        with pytest.raises(ServiceError, match="did not answer"):
            Client(service.url, read_timeout=0.2).reset("pc1")


def test_unix_socket_missing(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="No such file") as caught:
        Client(f"unix://{tmp_path}/none.sock").hosts()
    assert caught.value.unreachable


def test_token_may_change(client: Client, service: Service, token_file: Path) -> None:
    client.hosts()
    token_file.write_text("another")
    with pytest.raises(ServiceError, match="token is missing or wrong") as caught:
        client.hosts()
    assert caught.value.status == 401
    assert "token_file" in caught.value.fix
    service.token = "another"
    client.hosts()


@pytest.mark.parametrize("content", ["", "two words", f"{TOKEN}\nX-Evil: 1", "caf\u00e9"])
def test_odd_token_is_refused_unseen(
    client: Client, service: Service, token_file: Path, content: str
) -> None:
    token_file.write_text(content)
    with pytest.raises(ServiceError, match="one word of printable ASCII") as caught:
        client.hosts()
    assert TOKEN not in str(caught.value)
    assert not service.calls


def test_token_file_missing(service: Service, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="can't be read: No such file") as caught:
        Client(service.url, str(tmp_path / "none")).hosts()
    assert "chmod 640" in caught.value.fix
    assert not caught.value.unreachable


def test_problem(client: Client, service: Service) -> None:
    service.acts["start"] = refuse(
        503, "not ready", "pc1 did not become ready in 180 s: no rpc", "look at its screen"
    )
    with pytest.raises(ServiceError) as caught:
        client.start("pc1", 5)
    error = caught.value
    assert (error.status, error.title, error.host) == (503, "not ready", "pc1")
    assert error.detail == "pc1 did not become ready in 180 s: no rpc"
    assert str(error) == f"{error.detail} (fix: look at its screen)"
    assert not error.unreachable


def test_problem_that_does_not_name_its_host(client: Client, service: Service) -> None:
    service.acts["start"] = answer(500, {})
    with pytest.raises(ServiceError, match=r"^pc1: HTTP 500$"):
        client.start("pc1", 5)
    service.acts["start"] = answer(500, ["?"])
    with pytest.raises(ServiceError, match=r"^pc1: HTTP 500$"):
        client.start("pc1", 5)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"<html>", "it answered 200 without JSON"),
        (502, b"<html>bad gateway", "it answered 502 without JSON"),
        (200, b"\xff\xfe", "it answered 200 without JSON"),
        (200, [], "it sent no object"),
        (200, b"[" + b" " * (5 << 20) + b"]", "it sent more than"),
    ],
)
def test_something_else_listens_there(
    client: Client, service: Service, status: int, body: object, reason: str
) -> None:
    service.acts["start"] = answer(status, body)
    with pytest.raises(ServiceError, match=reason) as caught:
        client.start("pc1", 5)
    assert "service =" in caught.value.fix


@pytest.mark.parametrize("body", [{}, ["pc1"], "pc1"])
def test_no_list_of_hosts(client: Client, service: Service, body: object) -> None:
    service.acts["/v1/hosts"] = answer(200, body)
    with pytest.raises(ServiceError, match="it sent no list of hosts"):
        client.hosts()


def test_no_redirect_is_followed(client: Client, service: Service) -> None:
    with serve() as other:

        def redirect(handler: Handler) -> None:
            handler.send_response(307)
            handler.send_header("Location", f"{other.url}/v1/hosts")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        service.acts["/v1/hosts"] = redirect
        with pytest.raises(ServiceError, match="307 without JSON"):
            client.hosts()
        assert not other.calls


def test_no_proxy_and_no_netrc(
    client: Client, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login x password y\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    client.hosts()
    assert service.headers[0]["Authorization"] == f"Bearer {TOKEN}"


def test_nobody_listens(token_file: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        with pytest.raises(ServiceError, match=f"at http://127.0.0.1:{port}: Connection refused"):
            Client(f"http://127.0.0.1:{port}", str(token_file)).host("pc1")


def test_nobody_takes_the_connection(token_file: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        port = sock.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            client = Client(f"http://127.0.0.1:{port}", str(token_file), connect_timeout=0.3)
            with pytest.raises(ServiceError, match="no answer of the service") as caught:
                client.hosts()
            assert caught.value.unreachable
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize("act", [hang, drip, hang_in_the_middle])
def test_no_answer_in_time(
    service: Service, token_file: Path, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MARGIN", 0.2)
    client = Client(service.url, str(token_file), read_timeout=0.3)
    service.acts["stop"] = act
    before = time.monotonic()
    with pytest.raises(ServiceError, match=r"did not answer|does not end") as caught:
        client.stop("pc1", 0.3)
    assert time.monotonic() - before > 0.4
    assert caught.value.status == 0
    assert caught.value.host == "pc1"


def test_a_long_start_is_waited_for(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch, token_file: Path
) -> None:
    monkeypatch.setattr(transport, "MARGIN", 20)
    client = Client(service.url, str(token_file), read_timeout=0.1)
    service.acts["start"] = slowly(0.6)
    assert client.start("pc1", 0.5) == REPORT


@pytest.mark.parametrize("act", [drop, drop_in_the_middle])
def test_dropped(client: Client, service: Service, act: Act) -> None:
    service.acts["start"] = act
    with pytest.raises(ServiceError, match="no answer of the service") as caught:
        client.start("pc1", 5)
    assert caught.value.status == 0


def test_requests_do_not_wait_for_each_other(client: Client, service: Service) -> None:
    go_on, done = threading.Event(), list[object]()

    def start(handler: Handler) -> None:
        assert go_on.wait(HANG)
        handler.reply(200, REPORT)

    service.acts["start"] = start
    thread = threading.Thread(target=lambda: done.append(client.start("pc1", 5)))
    thread.start()
    wait(lambda: service.asked("start"), what="no start was asked for")
    client.stop("pc1", 5)
    assert not done
    go_on.set()
    thread.join()
    assert done == [REPORT]


@pytest.mark.parametrize("url", ["", "127.0.0.1:8470", "ftp://x", "http://", "unix://"])
def test_wrong_url(url: str) -> None:
    with pytest.raises(ServiceError, match="no URL of a service") as caught:
        Client(url)
    assert "http://127.0.0.1:8470" in caught.value.fix


def test_needs_requests_alone(tmp_path: Path) -> None:
    """What runs inside CAPE imports nothing of the server's extras."""
    code = (
        "import sys, builtins\n"
        "import cuckoo_zfsiscsi.cape.client, cuckoo_zfsiscsi.cape.options\n"
        "print(*{name.split('.')[0] for name in sys.modules} & set(sys.argv[1:]))\n"
    )
    extras = ["pydantic", "fastapi", "starlette", "typer", "rich", "jinja2", "uvicorn"]
    loaded = subprocess.run(
        [sys.executable, "-c", code, *extras],
        check=True, stdout=subprocess.PIPE, text=True, timeout=HANG, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ).stdout  # fmt: skip
    assert loaded.strip() == ""
