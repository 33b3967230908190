"""What deploy/ has for Prometheus and Grafana, judged by Prometheus and by Grafana's own schema."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.iscsi import free_port
from tests.service.dashboard.browser import served
from tests.service.dashboard.conftest import TOKEN, application
from tests.service.many_hosts import ManyHosts
from tests.waiting import HANG, wait

DEPLOY = Path(__file__).parents[2] / "deploy"
GRAFANA = DEPLOY / "grafana" / "zfsiscsi.json"
TAIL = 3000
"""Bytes of Prometheus' own log that are shown when it never has what it is asked for."""


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(GRAFANA.read_text())["panels"]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel["targets"]:
            # What Grafana fills in; longer than the test lasts, on a busy machine, too.
            text = target["expr"].replace("$host", ".*").replace("$__rate_interval", "1h")
            yield panel["title"], text


class Prometheus:
    """One that runs.

    Args:
        listen: its address and port.
        process: that it is.
        log: what it says.
    """

    def __init__(self, listen: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self.base = f"http://{listen}/api/v1"
        self._log = log
        self._last = "nothing"

    def get(self, path: str, **params: str) -> Any:
        """Return the data of an answer; None: there is none yet, it still starts or has failed."""
        assert self._process.poll() is None, f"Prometheus has ended: {self._state()}"
        try:
            answer = requests.get(f"{self.base}/{path}", params=params, timeout=HANG)
        except requests.ConnectionError as error:
            self._last = f"{type(error).__name__}: {error}"
            return None
        self._last = f"{answer.status_code} {answer.text[:TAIL]}"
        if answer.status_code == 503:  # "Service Unavailable" while it starts, and no JSON
            return None
        try:
            body = answer.json()
        except ValueError:
            return None
        assert body["status"] == "success", f"{path} {params}: {self._last}"
        return body["data"]

    def query(self, text: str) -> list[Any]:
        """Return what an expression finds."""
        data = self.get("query", query=text)
        assert data is not None, f"{text}: {self._last}"
        found: list[Any] = data["result"]
        return found

    def until(self, text: str) -> list[Any]:
        """Wait until an expression finds something, and return it.

        A scrape that times out on a busy machine makes all that the service has stale, until the
        next one.
        """

        def found() -> list[Any]:
            data = self.get("query", query=text)
            return data["result"] if data else []

        return wait(found, what=f"Prometheus never has {text}", seen=self._state, pause=0.1)

    def _state(self) -> str:
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - TAIL))
            return f"{self._last}\nits log ends with:\n{log.read().decode(errors='replace')}"


@contextlib.contextmanager
def running(folder: Path, config: Path) -> Iterator[Prometheus]:
    """Run one with this configuration. It ends whatever happens to who uses it."""
    listen, log = f"127.0.0.1:{free_port()}", folder / "prometheus.log"
    argv = ["prometheus", f"--config.file={config}", f"--web.listen-address={listen}"]
    argv += [f"--storage.tsdb.path={folder}/data", "--log.level=warn"]
    with log.open("wb") as output:
        server = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield Prometheus(listen, server, log)
        finally:
            server.terminate()
            server.wait(HANG)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run a real Prometheus that scrapes a service whose hosts work."""
    folder = tmp_path_factory.mktemp("prometheus")
    many = ManyHosts(3, folder, {"rpc": 0.1, "agent": 0.2})
    many.open()
    with contextlib.closing(many), served(application(many)) as url:
        token = folder / "token"
        token.write_text(TOKEN)
        text = (DEPLOY / "prometheus" / "scrape.yml").read_text()
        for old, new in (
            ("127.0.0.1:8470", url.removeprefix("http://")),
            ("/etc/prometheus/zfsiscsi.token", str(token)),
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("- zfsiscsi-rules.yml", f"- {DEPLOY}/prometheus/zfsiscsi-rules.yml"),
        ):
            assert old in text
            text = text.replace(old, new)
        config = folder / "prometheus.yml"
        config.write_text(text)
        with running(folder, config) as one:
            one.until('up{job="zfsiscsi"} == 1')
            for _ in range(2):  # a rate needs a begin and an end
                work(many)
                one.until("zfsiscsi_recovery_seconds_count >= 1")
                one.until('zfsiscsi_stage_seconds_count{stage="agent"} >= 1')
            one.until('sum(rate(zfsiscsi_stage_seconds_count{stage="agent"}[1h])) > 0')
            yield one


def work(many: ManyHosts) -> None:
    for host in many.hosts():
        host.start(None, None).booted.result(HANG)
        host.stop().result(HANG)
    many.until_clean()


def test_every_panel_shows_something(prometheus: Prometheus) -> None:
    for title, text in expressions():
        if "bmc_errors" in text:  # simulated hosts have no power device
            prometheus.query(text)
            continue
        found = prometheus.until(text)
        if "quantile" in text:
            assert all(value["value"][1] != "NaN" for value in found), f"{title}: {found}"


def test_every_metric_is_used_and_there(prometheus: Prometheus) -> None:
    """Neither panels nor alerts ask for what the service does not have."""
    names = prometheus.get("label/__name__/values")
    there = {name for name in names if name.startswith("zfsiscsi_")}
    text = GRAFANA.read_text() + (DEPLOY / "prometheus" / "zfsiscsi-rules.yml").read_text()
    unused = {name for name in there if name not in text}
    documented = (DEPLOY.parent / "docs" / "metrics.rst").read_text()
    for name in unused:
        base = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        assert base in documented, f"{name} is neither shown nor documented"


def test_alert_rules() -> None:
    argv = ["promtool", "check", "rules", str(DEPLOY / "prometheus" / "zfsiscsi-rules.yml")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, "7 rules found" in done.stdout) == (0, True), done.stderr


def test_grafana_knows_every_field() -> None:
    """Read and written by the models that Grafana makes from its own schema, nothing is lost."""
    original = json.loads(GRAFANA.read_text())
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(original)))
    assert list(lost(original, known, "")) == []
    original["panels"][0]["gridPos"]["wdith"] = 3
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(original)))
    assert list(lost(original, known, "")) == ["/panels/0/gridPos/wdith"]


def lost(original: Any, known: Any, at: str) -> Iterator[str]:
    """Return what is not the same; defaults may have been added."""
    if isinstance(original, dict) and isinstance(known, dict):
        for key, value in original.items():
            yield from lost(value, known.get(key, KeyError), f"{at}/{key}")
    elif isinstance(original, list) and isinstance(known, list) and len(original) == len(known):
        for number, pair in enumerate(zip(original, known, strict=True)):
            yield from lost(*pair, f"{at}/{number}")
    elif original != known:
        yield at


def test_panels_are_apart() -> None:
    taken: dict[tuple[int, int], str] = {}
    assert len({panel["id"] for panel in panels()}) == len(panels())
    for panel in panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
