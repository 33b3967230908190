"""Words of guests, power devices and tasks, in the terminal of whoever looks."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cli import run
from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError
from cuckoo_zfsiscsi.service.events import Event
from cuckoo_zfsiscsi.service.history import PastRun
from cuckoo_zfsiscsi.service.host import Host
from cuckoo_zfsiscsi.service.report import BootReport, HostReport, State
from tests.cli.test_hosts import serve
from tests.clocks import RealClock
from tests.config.sample import EXAMPLE
from tests.service.conftest import make, world
from tests.service.fakes import World
from tests.service.in_real_time import clock, host
from tests.service.waiting import quiet
from tests.waiting import HANG, wait

__all__ = ["clock", "host", "make", "world"]  # fixtures

Capture = pytest.CaptureFixture[str]

EVIL = (
    "[/x] [bold]b[/] :smile: \x1b]0;owned\x07 \x1b[2J \x9b31m \x7f \u202e\u2066 \u2028 \ud800 \t"
    "\r\nerror: forged\nfix: rm -rf /"
)
"""Markup, a title, an empty screen, a colour (C1), DEL, text from right to left, half a character,
and lines that look like ours."""
WHOLE = EVIL.replace("\ud800 ", "")
"""Without half a character, which no argument of a command has, and no report of a test."""
LONG = EVIL * 1500
"""More than 100 kB."""
HOST = HostReport(
    LONG, State.READY, 1.0, LONG, LONG, LONG, EVIL, 7, EVIL, True,
    BootReport(EVIL, 7, EVIL, False, 1.0, {"fence": 0.1, "power": 0.2, "rpc": 2.0}, 17.5, True,
               stalled=LONG, warning=LONG),
    [EVIL, LONG], EVIL,
)  # fmt: skip
ANSWERS: dict[str, object] = {
    "hosts": [{**asdict(HOST), "state": EVIL}],
    "runs": [asdict(PastRun(EVIL, 7, EVIL, LONG, 1.0, 2.0, EVIL, [LONG]))],
    "history": [asdict(Event(EVIL, "power", ok, LONG, 7, EVIL, 1.0)) for ok in (True, False)],
    "boots": [asdict(HOST.last_boot), {**asdict(HOST.last_boot), "ready": False}],  # type: ignore[arg-type]
    "host": {**asdict(HOST), "state": "maintenance"},
    "start": {**asdict(HOST.last_boot)},  # type: ignore[arg-type]
    "networks": [{"network": EVIL, "state": "isolated", "why": LONG, "hosts": [EVIL]}],
    "power": {"host": EVIL, "power": "on", "peer": LONG, "proof": EVIL, "seconds": 1.0},
}
COMMANDS: dict[str, tuple[str, ...]] = {
    "hosts": ("hosts",),
    "host": ("hosts", "pc1"),
    "start": ("start", "pc1"),
    "stop": ("stop", "pc1"),
    "reset": ("reset", "pc1"),
    "maintenance": ("maintenance", "pc1", "on"),
    "runs": ("runs",),
    "boots": ("boots", "pc1"),
    "history": ("history",),
    "networks": ("netboot", "isolation", "--show"),
    "edit": ("image", "edit", "pc1", "win10"),
    "power": ("power", "pc1", "status"),
    "test": ("power", "pc1", "test"),
}
"""Every command that prints what the service says."""


def check_shown(text: str) -> None:
    """See that a terminal has nothing to obey, and that no line is forged."""
    bad = {char for char in text if char != "\n" and not char.isprintable()}
    assert not bad, f"{bad!r} in {text[:2000]!r}"
    assert not [line for line in text.split("\n") if line.startswith(("error: forged", "fix: rm"))]


class Player(BaseHTTPRequestHandler):
    """The service, possessed."""

    server: Evil

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.answer()

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        if self.server.problem:
            problem = {"title": EVIL, "detail": LONG, "fix": EVIL, "host": EVIL, "status": 500}
            self.reply(500, problem)
            return
        last = path.rpartition("/")[2]
        self.reply(200, ANSWERS.get(last, ANSWERS["host"]))

    def reply(self, status: int, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: object) -> None:
        pass


class Evil(ThreadingHTTPServer):
    daemon_threads = True
    problem = False


@pytest.fixture
def evil() -> Iterator[Evil]:
    server = Evil(("127.0.0.1", 0), Player)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(HANG)


@pytest.fixture
def cli(evil: Evil, tmp_path: Path) -> Callable[..., int]:
    conf, token = tmp_path / "zfsiscsi.conf", tmp_path / "token"
    token.touch(0o600)
    token.write_text("a-token")
    text = EXAMPLE.read_text().replace(":8470", f":{evil.server_address[1]}")
    conf.write_text(text.replace("/etc/zfsiscsi/token", str(token)))
    return lambda *words: run(["--conf", str(conf), *words])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_text_of_the_service(
    cli: Callable[..., int], evil: Evil, command: str, capsys: Capture
) -> None:
    """Each text that the service tells is markup, control characters, forged lines, and 100 kB.

    Before: `zfsiscsi hosts` ended with a markup error for a task `[/x]`, and escape sequences
    reached the terminal.
    Now: each is written out, on one line, cut; programs get all of it.
    """
    words = COMMANDS[command]
    assert cli(*words) == 0
    said = capsys.readouterr()
    check_shown(said.out + said.err)
    assert len(said.out) < 50_000
    assert cli(*words, "--json") == 0
    out = capsys.readouterr().out
    check_shown(out)
    if command in ANSWERS and command not in ("power", "maintenance"):
        assert json.loads(out) == json.loads(json.dumps(ANSWERS[command]))
    evil.problem = True
    assert cli(*words) == 1
    said = capsys.readouterr()
    check_shown(said.out + said.err)
    assert said.err.startswith("error: ")


def test_a_task_a_warning_and_a_power_device(
    host: Host, world: World, tmp_path: Path, clock: RealClock, capsys: Capture
) -> None:
    """A task's id, and what a BMC says, through the real service and its records.

    Before: as above; what was on record had blanks instead, and a task's id was as it came.
    Now: written out wherever it is shown.
    """
    task = WHOLE
    with serve(host, tmp_path) as cli:
        assert cli("start", "pc1", "--task", task) == 0
        for words in (("hosts",), ("hosts", "pc1"), ("runs",), ("boots", "pc1")):
            assert cli(*words) == 0
        assert cli("stop", "pc1") == 0
        quiet(host, State.CLEAN)
        world.fail["off"] = PowerError(f"BMC: {task}", fix=task)
        assert cli("reset", "pc1") == 0
        clock.until(lambda: host.report().reason != "", "quarantined", host.report)
        for words in (("hosts",), ("history",), ("runs",)):
            assert cli(*words) == 0
        said = capsys.readouterr()
        check_shown(said.out + said.err)
        assert "[/x] [bold]b[/] :smile: \\x1b]0;owned\\x07" in said.out
        assert cli("runs", "--json") == 0
        assert json.loads(capsys.readouterr().out)[0]["task"] == task


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Have everything logged as the service has it."""
    from cuckoo_zfsiscsi.service import logs

    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.set_up(verbose=False, stream=stream)
    try:
        yield stream
    finally:
        root.setLevel(level)
        for handler in set(root.handlers) - set(before):
            root.removeHandler(handler)


def test_the_log_of_the_service(tmp_path: Path) -> None:
    """A guest's words in a line of dnsmasq's, and in an exception.

    Before: control characters were in the journal as they came; an exception's text made lines that
    looked like entries.
    Now: an entry is one line; what an exception quotes stands behind a margin.
    """
    log = logging.getLogger("cuckoo_zfsiscsi.test")
    forged = "2026-01-01 00:00:00,000 INFO    cuckoo_zfsiscsi.audit: who=root"
    with logged() as stream:
        child = Daemon(["printf", r"name \033]0;owned\007 \302\233 \342\200\256 end\n"],
                       tmp_path / "d.pid", name="dnsmasq")  # fmt: skip
        with pytest.raises(Exception, match="ended"):
            child.start(Deadline(HANG), lambda: False)
        wait(lambda: "end" in stream.getvalue(), what="no line", seen=stream.getvalue)
        try:
            raise ValueError(f"guest: {WHOLE}\n{forged}")
        except ValueError:
            log.exception("failed: %s", f"{WHOLE}\n{forged}")
    text = stream.getvalue()
    check_shown(text)
    assert not [line for line in text.split("\n") if line.startswith(forged)]
    assert r"dnsmasq: name \x1b]0;owned\x07 \x9b \u202e end" in text
    assert "    | Traceback" in text
