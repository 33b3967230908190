"""What the dashboard costs: many hosts that change state, and viewers in a real browser.

    .venv/bin/python -m bench.dashboard [--hosts 300] [--changes 10] [--viewers 5] [--json]

The hosts are the service's own, with a thread each, over simulated hardware; the control listener
is the service's own. They run analyses so that states change so often in all. Measured are, of the
service's process: CPU time over --seconds and resident memory, first without a viewer, then with
all of them; and in headless Chromium the time from navigation to first contentful paint of the
page with all hosts, median and worst of all viewers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, cast

import uvicorn

from cuckoo_zfsiscsi.cape.transport import ServiceError, Transport
from cuckoo_zfsiscsi.service.api import make_api
from cuckoo_zfsiscsi.service.dashboard.app import make_app
from cuckoo_zfsiscsi.service.dashboard.feed import Feed
from tests.iscsi import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

    from cuckoo_zfsiscsi.service.fleet import Fleet

CHROMIUM = "/usr/bin/chromium"
TOKEN = "of-the-bench"  # noqa: S105 - it guards simulated hosts for a minute
MB = 1e6
UP = 240.0
"""Seconds after which a service that does not answer is given up."""
WINDOW: ViewportSize = {"width": 1920, "height": 1080}
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


def serve(hosts: int, changes: float, port: int, folder: Path) -> None:
    """Be the service, until killed; says how many states have changed when asked."""
    from tests.service.many_hosts import CountedHost, ManyHosts

    many = ManyHosts(hosts, folder)
    many.open()
    many.work(changes)
    fleet = cast("Fleet", many)
    api = make_api(fleet, TOKEN)

    @api.get("/v1/changes")
    async def count() -> int:
        return CountedHost.changes

    app = make_app(fleet, api, TOKEN, Feed(fleet))
    uvicorn.run(app, port=port, lifespan="off", access_log=False, log_config=None)


class Service:
    """The service in a process of its own, and what it has used."""

    def __init__(self, hosts: int, changes: float, folder: Path) -> None:
        self.port = free_port()
        argv = [sys.executable, "-m", "bench.dashboard", "--serve", str(self.port), str(folder)]
        argv += ["--hosts", str(hosts), "--changes", str(changes)]
        # A test's coverage measurement would be measured too.
        env = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
        self.process = subprocess.Popen(argv, env=env)
        token = folder / "token"
        token.write_text(TOKEN)
        self._transport = Transport(f"http://127.0.0.1:{self.port}", str(token))

    def cpu(self) -> float:
        """Return seconds of CPU time so far, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> float:
        """Return MB resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields["VmRSS"].split()[0]) * 1024 / MB

    def changes(self) -> int:
        """Return how many states have changed since it began."""
        return int(self._transport.ask("GET", "/v1/changes"))

    def until_up(self) -> None:
        """Wait until it answers.

        Raises:
            TimeoutError: it does not.
        """
        end = time.monotonic() + UP
        while time.monotonic() < end:
            with contextlib.suppress(ServiceError):
                self.changes()
                return
            time.sleep(0.2)
        raise TimeoutError("the service does not answer")

    def over(self, seconds: float) -> dict[str, float]:
        """Return what it uses in so many seconds from now."""
        cpu, changes, begin = self.cpu(), self.changes(), time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - begin
        return {
            "cpu_percent": 100 * (self.cpu() - cpu) / took,
            "resident_mb": self.resident(),
            "changes_per_s": (self.changes() - changes) / took,
        }


def log_in(page: Page, port: int) -> None:
    """Log in, without a look at the hosts."""
    page.goto(f"http://127.0.0.1:{port}/login")
    page.fill("#token", TOKEN)
    page.route("**/", lambda route: route.abort())
    page.click("button")
    page.wait_for_timeout(300)
    page.unroute("**/")


def first_paint(browser: Browser, port: int, hosts: int) -> float:
    """Return seconds from navigation to the first contentful paint, in an empty browser profile."""
    page = browser.new_page(viewport=WINDOW)
    log_in(page, port)
    page.goto(f"http://127.0.0.1:{port}/", wait_until="load")
    while (at := page.evaluate(_PAINT)) is None:  # wait_for_function() needs eval: not allowed here
        page.wait_for_timeout(50)
    if page.locator(".host").count() != hosts:
        raise RuntimeError("the page does not show all hosts")
    page.context.close()
    return float(at) / 1000


def measure(hosts: int, changes: float, viewers: int, seconds: float) -> dict[str, float]:
    """Return all that the table shows."""
    from playwright.sync_api import sync_playwright  # not in the service's memory

    with tempfile.TemporaryDirectory() as folder:
        service = Service(hosts, changes, Path(folder))
        try:
            service.until_up()
            time.sleep(5)  # until runs end as often as they begin
            alone = service.over(seconds)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=CHROMIUM, args=["--no-sandbox"]
                )
                paints = [first_paint(browser, service.port, hosts) for _ in range(viewers)]
                for _ in range(viewers):
                    page = browser.new_page(viewport=WINDOW)
                    log_in(page, service.port)
                    page.goto(f"http://127.0.0.1:{service.port}/")
                time.sleep(3)
                viewed = service.over(seconds)
                browser.close()
        finally:
            service.process.kill()
            service.process.wait()
    return {
        "hosts": hosts,
        "viewers": viewers,
        "changes_per_s": viewed["changes_per_s"],
        "paint_best_s": min(paints),
        "paint_median_s": median(paints),
        "paint_worst_s": max(paints),
        "cpu_percent": viewed["cpu_percent"],
        "cpu_percent_unviewed": alone["cpu_percent"],
        "cpu_percent_of_viewers": viewed["cpu_percent"] - alone["cpu_percent"],
        "resident_mb": viewed["resident_mb"],
        "resident_mb_unviewed": alone["resident_mb"],
        "resident_mb_of_viewers": viewed["resident_mb"] - alone["resident_mb"],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--hosts", type=int, default=300)
    parser.add_argument("--changes", type=float, default=10, help="of states a second, in all")
    parser.add_argument("--viewers", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30, help="to measure for")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        port, folder = options.serve
        serve(options.hosts, options.changes, int(port), Path(folder))
        return
    result = measure(options.hosts, options.changes, options.viewers, options.seconds)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name:24} {value:8.2f}")


if __name__ == "__main__":
    main()
