"""The dashboard of the real service, in a real browser: real BMC, target, DHCP, and a kill."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from cuckoo_zfsiscsi.cape.client import ServiceError
from tests.faults.patience import SERVICE
from tests.faults.small_lab import SmallLab
from tests.service.dashboard.browser import Visit, chromium
from tests.waiting import HANG


@contextlib.contextmanager
def forwarded(path: Path) -> Iterator[str]:
    """Forward a port to the service's socket, as ssh -L does; return the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):  # closed
                while True:
                    near, _ = listener.accept()
                    threading.Thread(target=forward, args=(near, path), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def forward(near: socket.socket, path: Path) -> None:
    with near, socket.socket(socket.AF_UNIX) as far, contextlib.suppress(OSError):
        far.connect(str(path))
        back = threading.Thread(target=pump, args=(far, near))
        back.start()
        pump(near, far)
        back.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture(autouse=True)
def patient() -> Iterator[None]:
    expect.set_options(timeout=HANG * 1000)
    yield
    expect.set_options(timeout=5_000)


def test_a_run_a_kill_and_a_failure_as_they_are_seen(lab: SmallLab) -> None:
    lab.set("power_timeout", 10)
    lab.start()
    lab.wait(lambda: lab.state() == "clean", "the first reset")
    with forwarded(lab.at / "api.sock") as url, chromium() as browser:
        seen = Visit(browser, url)
        page = seen.page
        page.set_default_timeout(HANG * 1000)
        page.goto("/")
        card = page.locator("#host-pc1")
        expect(card).to_have_attribute("data-state", "clean")
        lab.client.start("pc1", SERVICE, "77")
        expect(card).to_have_attribute("data-state", "running")
        expect(card).to_contain_text("task 77")
        assert "recovery" in lab.run_cli("history", "--kind", "boot")  # so it is on record
        lab.kill()
        expect(page.locator("#link")).to_have_text("no connection")
        lab.restart()
        expect(page.locator("#link")).to_have_text("live")
        lab.wait(lambda: lab.state() == "clean", "the way back to clean")
        expect(card).to_have_attribute("data-state", "clean")
        # What was on record before the kill is there after it.
        page.goto("/hosts/pc1")
        for words in ("77", "the device says on", "a clean disk is in place"):
            expect(page.locator("#live")).to_contain_text(words)
        expect(page.locator(".about .spark")).to_be_visible()
        page.get_by_role("button", name="Reset…").click()
        page.get_by_role("dialog").get_by_role("button", name="Reset", exact=True).click()
        expect(page.locator(".message")).to_contain_text("proved again")
        lab.wait(lambda: lab.state() == "clean", "the reset by a button")
        lab.client.start("pc1", SERVICE, "78")
        (lab.machine.state / "fault").write_text("stuck-on")
        with pytest.raises(ServiceError):
            lab.client.stop("pc1", SERVICE)
        expect(page.locator(".about")).to_contain_text("quarantined")
        page.goto("/storage")
        expect(page.locator("#live")).to_contain_text("golden@1")
        assert seen.wrong == []
    boots = json.loads(lab.run_cli("history", "pc1", "--kind", "boot", "--json"))
    assert [boot["ok"] for boot in boots] == [True, True]
    assert {"fence", "swap", "prove", "arm", "power", "login", "rpc", "recovery"} <= set(
        boots[0]["stages"]
    )
    assert "failure" in lab.run_cli("history")
    argv = [
        "curl",
        "--silent",
        "--unix-socket",
        str(lab.at / "api.sock"),
        "http://localhost/metrics",
    ]
    metrics = subprocess.run(argv, capture_output=True, check=True).stdout
    check = ["promtool", "check", "metrics"]
    done = subprocess.run(check, input=metrics, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b'zfsiscsi_quarantines_total{host="pc1"} 1.0' in metrics
