from __future__ import annotations

import contextlib
import http.server
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from cuckoo_zfsiscsi.cli import run
from cuckoo_zfsiscsi.compare.plan import Plan
from tests.compare.conftest import cape, write_plan
from tests.compare.fake_cape import FakeCape
from tests.waiting import HANG, wait

__all__ = ["cape", "write_plan"]  # fixtures

PROGRAM = """\
import sys
from cuckoo_zfsiscsi.cli import run
from cuckoo_zfsiscsi.compare import run as module
module.PAUSE, module.GRACE = 0.05, 0.5
sys.exit(run(["compare", *sys.argv[1:]]))
"""


@contextlib.contextmanager
def serving(cape: FakeCape) -> Iterator[str]:
    """Serve it on a real socket; give its URL."""
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = requests.Request(
                self.command, f"http://x{self.path}", headers=dict(self.headers), data=body
            ).prepare()
            with lock:
                text = cape.send(request).content
            with contextlib.suppress(OSError):  # the program was killed meanwhile
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_killed_again_and_again(
    write_plan: Callable[..., Plan], cape: FakeCape, tmp_path: Path
) -> None:
    """By kill -9, wherever it is; the last one is let go to its end."""
    cape.looks = 3
    cape.tick = lambda: time.sleep(0.01)
    with serving(cape) as url:
        plan = write_plan(1, lambda text: text.replace("http://cape.test:8000", url))
        argv = [sys.executable, "-c", PROGRAM, str(plan.path), "--json"]
        for asked in (3, 9, 15):
            with subprocess.Popen(
                argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                wait(
                    lambda n=asked: len(cape.asked) >= n,  # type: ignore[misc]
                    what=f"not {asked} requests",
                    seen=lambda: cape.asked,
                )
                process.send_signal(signal.SIGKILL)
                assert process.wait() == -signal.SIGKILL
        done = subprocess.run(argv, capture_output=True, text=True, timeout=HANG, check=True)
    assert len(cape.tasks) == 6
    hides, loud = json.loads(done.stdout)["samples"]
    assert (hides["evasive"], loud["evasive"]) == (True, False)


def test_files_and_show(
    write_plan: Callable[..., Plan],
    cape: FakeCape,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("cuckoo_zfsiscsi.compare.run.PAUSE", 0.01)
    with serving(cape) as url:
        plan = write_plan(1, lambda text: text.replace("http://cape.test:8000", url))
        words = ["compare", str(plan.path), "--into", str(tmp_path / "done")]
        assert run([*words, "--show", "--json"]) == 0
        states = {
            env["state"]
            for one in json.loads(capsys.readouterr().out)["samples"]
            for env in one["environments"].values()
        }
        assert states == {"pending"}
        assert cape.asked == []
        html, csv = tmp_path / "t.html", tmp_path / "t.csv"
        assert run([*words, "--again", "--html", str(html), "--csv", str(csv)]) == 0
        said = capsys.readouterr()
    assert "yes: ran on physical only" in " ".join(said.out.split())
    assert "the paper's rule" in said.out
    assert "0 runs are repeated" in said.err
    assert "hides in kvm, 1: task " in said.err
    assert html.read_text().startswith("<!doctype html>")
    assert csv.read_text().count("contacted") == 3


def test_example_and_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["compare", "--example"]) == 0
    assert capsys.readouterr().out.startswith("# Which samples run where")
    assert run(["compare"]) == 2
    assert "--example prints one" in " ".join(capsys.readouterr().err.split())
    assert run(["compare", str(tmp_path / "none.ini")]) == 1
    assert "fix: zfsiscsi compare --example" in capsys.readouterr().err
    assert run(["compare", "x.ini", "--csv", "/nowhere/at/all"]) == 2
