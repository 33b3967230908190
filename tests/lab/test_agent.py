from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.lab.guest.agent import Agent
from cuckoo_zfsiscsi.readiness import agent as probe
from tests.waiting import HANG


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Agent) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def post(port: int, path: str, **form: str) -> dict[str, Any]:
    data = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, timeout=HANG) as answer:
        result: dict[str, Any] = json.load(answer)
        return result


def test_it_is_there(port: int) -> None:
    answer = probe.probe("127.0.0.1", port, deadline=Deadline(HANG))
    assert answer.ok, answer
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=HANG) as response:
        assert "execute" in json.load(response)["features"]


def test_it_runs_commands(port: int) -> None:
    answer = post(port, "/execute", command="sh -c 'echo out; echo bad >&2; exit 3'")
    assert (answer["stdout"], answer["stderr"]) == ("out\n", "bad\n")


def test_it_is_no_shell(port: int) -> None:
    assert (
        post(port, "/execute", command="echo $HOME; echo 'a  b'")["stdout"] == "$HOME; echo a  b\n"
    )
    for command in ("/no/such/program", "echo 'open"):
        with pytest.raises(urllib.error.HTTPError, match="500"):
            post(port, "/execute", command=command)


def test_what_it_does_not_know(port: int) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/other", timeout=HANG)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(port, "/other", command="true")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(port, "/execute", other="true")
