"""The plugin, called as CAPE calls it, against the control API over real HTTP."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cuckoo_zfsiscsi.cape import transport
from cuckoo_zfsiscsi.lab import cape_standin
from cuckoo_zfsiscsi.lab.cape_standin import (
    CuckooCriticalError,
    CuckooMachineError,
    Machinery,
    load_plugin,
)
from tests.cape.service import (
    REPORT,
    TOKEN,
    Act,
    Handler,
    Service,
    answer,
    drop,
    drop_in_the_middle,
    hang,
    host,
    refuse,
    serve,
)
from tests.clocks import VirtualClock
from tests.waiting import HANG, wait

CONF = """
[zfsiscsi]
machines = pc1, pc2
interface = br-lab
service = {service}
token_file = {token_file}
start_timeout = 90
stop_timeout = 5
{more}

[pc1]
label = pc1
platform = windows
ip = 10.99.0.11
arch = x64
tags = win10,x64
snapshot = win10
mac = 001122334455

[pc2]
label = pc2
platform = linux
ip = 10.99.0.12
arch = x64
{more2}
"""

Load = Callable[..., Machinery]


@pytest.fixture
def load(service: Service, token_file: Path, tmp_path: Path, clock: VirtualClock) -> Iterator[Load]:
    loaded: list[Machinery] = []

    def _load(
        more: str = "",
        more2: str = "",
        *,
        url: str = service.url,
        timeouts: dict[str, Any] | None = None,
    ) -> Machinery:
        path = tmp_path / "zfsiscsi.conf"
        path.write_text(CONF.format(service=url, token_file=token_file, more=more, more2=more2))
        one = load_plugin(path, timeouts or cape_standin.TIMEOUTS, clock)
        loaded.append(one)
        return one

    yield _load
    for one in loaded:
        one._quarantine.end()  # type: ignore[attr-defined]


@pytest.fixture
def plugin(load: Load) -> Machinery:
    one = load()
    one.initialize()
    return one


@pytest.fixture(autouse=True)
def no_secrets(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    assert TOKEN not in caplog.text


def test_names_that_cape_looks_at(plugin: Machinery) -> None:
    kind = type(plugin)
    assert kind.__name__ == "ZfsIscsi"
    assert (kind.module_name, kind.LABEL) == ("zfsiscsi", "label")
    assert len({kind.RUNNING, kind.POWEROFF, kind.ABORTED}) == 3
    assert [machine.label for machine in plugin.machines()] == ["pc1", "pc2"]


def test_start_and_stop(
    plugin: Machinery, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.calls.clear()
    plugin.start("pc1")
    plugin.start("pc2")
    plugin.stop("pc1")
    plugin.stop("pc1")
    assert service.calls == [
        ("POST", "/v1/hosts/pc1/start", {"timeout": 90, "task": None, "image": "win10"}),
        ("POST", "/v1/hosts/pc2/start", {"timeout": 90, "task": None, "image": None}),
        ("POST", "/v1/hosts/pc1/stop", {"timeout": 5}),
        ("POST", "/v1/hosts/pc1/stop", {"timeout": 5}),
    ]
    assert "pc1 is ready: generation 7, image win10@3" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_warning_of_the_boot_is_told(
    plugin: Machinery, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.acts["start"] = answer(200, {**REPORT, "warning": "pc1 was not told (fix: tell it)"})
    plugin.start("pc1")
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert record.getMessage() == "pc1 was not told (fix: tell it)"


def test_a_report_that_lacks_everything_fails_no_start(plugin: Machinery, service: Service) -> None:
    service.acts["start"] = answer(200, {})
    plugin.start("pc1")
    assert not service.asked("stop")


@pytest.mark.parametrize(
    ("written", "asked"),
    [("win10@2", "win10@2"), ("007", "007"), ("on", "on"), ("1", "1"), ("0", "0"), ("", None)],
)
def test_the_image_is_what_was_written(
    load: Load, service: Service, written: str, asked: str | None
) -> None:
    load(more2=f"snapshot = {written}").start("pc2")
    (body,) = service.asked("start")
    assert body
    assert body["image"] == asked


def test_image_of_a_host_that_is_not_configured_is_left_to_the_service(
    plugin: Machinery, service: Service
) -> None:
    service.hosts["pc3"] = host("pc3")
    plugin.start("pc3")
    assert service.asked("start") == [{"timeout": 90, "task": None, "image": None}]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"state": "unknown"}, "POWEROFF"),
        ({"state": "dirty"}, "POWEROFF"),
        ({"state": "clean"}, "POWEROFF"),
        ({"state": "booting"}, "POWEROFF"),
        ({"state": "ready"}, "POWEROFF"),
        ({"state": "stopping"}, "POWEROFF"),
        ({"state": "booting", "run": True}, "RUNNING"),
        ({"state": "running", "run": True}, "RUNNING"),
        ({"state": "quarantined"}, "ABORTED"),
        ({"state": "maintenance"}, "ABORTED"),
    ],
)
def test_status_and_what_cape_stops_at_its_start(
    load: Load, service: Service, changes: dict[str, Any], status: str
) -> None:
    plugin = load()
    service.hosts["pc1"] = host("pc1", **changes)
    assert plugin._status("pc1") == getattr(plugin, status)
    plugin.initialize()
    assert len(service.asked("stop")) == (status == "RUNNING")


# What leaves start() and stop().


def refused(plugin: Machinery, verb: str) -> str:
    with pytest.raises(CuckooMachineError) as caught:
        getattr(plugin, verb)("pc1")
    text = str(caught.value)
    assert text.startswith(f"{verb} of pc1: ")
    assert TOKEN not in text
    assert caught.value.__cause__ is None, "CAPE logs the whole chain"
    return text


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_failure_names_host_stage_and_next_step(
    plugin: Machinery, service: Service, verb: str
) -> None:
    service.acts[verb] = refuse(
        503, "not ready", "pc1 did not become ready in 180 s: no rpc", "look at its screen"
    )
    assert refused(plugin, verb) == (
        f"{verb} of pc1: pc1 did not become ready in 180 s: no rpc (fix: look at its screen)"
    )


def test_a_refused_start_stops_nothing(plugin: Machinery, service: Service) -> None:
    service.acts["start"] = refuse(409, "host busy", "pc1 has a run already")
    assert refused(plugin, "start") == "start of pc1: pc1 has a run already"
    assert not service.asked("stop"), "the run is somebody else's"


@pytest.mark.parametrize("act", [drop, drop_in_the_middle, answer(200, b"<html>")])
def test_a_start_without_an_answer_is_undone(plugin: Machinery, service: Service, act: Act) -> None:
    service.acts["start"] = act
    refused(plugin, "start")
    assert len(service.asked("stop")) == 1


def test_a_start_that_can_not_be_undone(
    plugin: Machinery, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.acts["start"] = drop
    service.acts["stop"] = refuse(503, "power", "pc1: power is not proved off")
    assert "no answer of the service" in refused(plugin, "start")
    assert "stop of pc1: pc1: power is not proved off" in caplog.text


def test_service_gone(load: Load) -> None:
    plugin = load(url="http://127.0.0.1:9")
    for verb in ("start", "stop", "_status"):
        with pytest.raises(CuckooMachineError, match=r"Connection refused \(fix: systemctl"):
            getattr(plugin, verb)("pc1")
    with pytest.raises(CuckooMachineError, match="Connection refused"):
        plugin._list()


def test_stop_during_start_from_another_thread(plugin: Machinery, service: Service) -> None:
    cancelled = threading.Event()

    def start(handler: Handler) -> None:
        assert cancelled.wait(HANG)
        handler.problem(409, "cancelled", "pc1: stop was asked for")

    def stop(handler: Handler) -> None:
        cancelled.set()
        handler.reply(200, host("pc1"))

    service.acts.update(start=start, stop=stop)
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(refused(plugin, "start")))
    thread.start()
    wait(lambda: service.asked("start"), what="no start was asked for")
    for _ in range(3):
        plugin.stop("pc1")
    thread.join()
    assert told == ["start of pc1: pc1: stop was asked for"]


def test_what_nobody_thought_of_is_a_machine_error_too(
    plugin: Machinery, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    del plugin.options.get("zfsiscsi")["machines"]
    assert refused(plugin, "start") == "start of pc1: KeyError: 'machines'"
    assert "Traceback" in caplog.text
    service.hosts["pc1"] = {"label": "pc1"}
    with pytest.raises(CuckooMachineError, match="status of pc1: KeyError"):
        plugin._status("pc1")


@pytest.mark.parametrize("value", ["soon", "on", "-1", "0", "inf", "nan"])
def test_a_timeout_that_is_none(load: Load, value: str) -> None:
    plugin = load(more="x = y")
    plugin.options.fullconfig["zfsiscsi"]["stop_timeout"] = value
    plugin.options.get("zfsiscsi")["stop_timeout"] = value
    assert f"stop_timeout = {value} in [zfsiscsi]" in refused(plugin, "stop")
    with pytest.raises(CuckooCriticalError, match="fix: stop_timeout = 60"):
        plugin.initialize()


def test_defaults_are_the_services(service: Service, tmp_path: Path, clock: VirtualClock) -> None:
    path = tmp_path / "short.conf"
    path.write_text(f"[zfsiscsi]\nmachines = pc1\nservice = {service.url}\n[pc1]\nlabel = pc1\n")
    service.token = None
    plugin = load_plugin(path, clock=clock)
    plugin.start("pc1")
    plugin.stop("pc1")
    plugin._quarantine.end()  # type: ignore[attr-defined]
    assert service.asked("start") == [{"timeout": 300, "task": None, "image": None}]
    assert service.asked("stop") == [{"timeout": 10}], "CAPE's main thread must not wait longer"


def test_a_start_keeps_to_capes_budget(
    load: Load, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = load(timeouts={"vm_state": 60, "stuck_seconds": 30})
    plugin.initialize()
    plugin.start("pc1")
    (body,) = service.asked("start")
    assert body
    assert body["timeout"] == 60 + 30 - 5 - 25, "what is left beside a stop of 5 s"
    assert "a start gets 60 s only" in caplog.text
    load(timeouts={"vm_state": 1}).start("pc1")
    assert service.asked("start")[1] == {"timeout": 71, "task": None, "image": "win10"}


def test_unix_socket(load: Load, tmp_path: Path) -> None:
    with serve(tmp_path / "api.sock") as service:
        service.token = None
        plugin = load(url=service.url)
        plugin.initialize()
        plugin.start("pc1")
        plugin.stop("pc1")
        assert [path for _, path, _ in service.calls][-2:] == [
            "/v1/hosts/pc1/start",
            "/v1/hosts/pc1/stop",
        ]


# CAPE's start.


def test_hosts_that_the_service_does_not_have(load: Load, service: Service) -> None:
    del service.hosts["pc2"]
    with pytest.raises(CuckooCriticalError, match=r"has no host pc2 \(fix: put the same"):
        load().initialize()


def test_wrong_token(load: Load, service: Service) -> None:
    service.token = "another"
    with pytest.raises(CuckooCriticalError, match=r"token is missing or wrong.*fix: check token"):
        load().initialize()


def test_cape_waits_for_the_service(
    load: Load, tmp_path: Path, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "api.sock"
    plugin = load(url=f"unix://{path}")
    begin = clock.monotonic()
    begun = clock.call(plugin.initialize)
    wait(lambda: "waiting for the service" in caplog.text, what="it does not say that it waits")
    with serve(path) as service:
        service.token = None
        clock.result(begun)
        assert [path for _, path, _ in service.calls][-1] == "/v1/hosts/pc2"
    assert clock.monotonic() - begin == 1.0


def test_cape_does_not_wait_for_ever(load: Load, clock: VirtualClock) -> None:
    plugin = load(url="http://127.0.0.1:9")
    begin = clock.monotonic()
    with pytest.raises(CuckooCriticalError, match="machinery zfsiscsi: no answer of the service"):
        plugin.initialize()
    assert 30.0 <= clock.monotonic() - begin <= 31.0


def test_a_host_that_can_not_be_stopped(load: Load, service: Service) -> None:
    service.hosts["pc1"] = host("pc1", state="running", run=True)
    service.acts["stop"] = refuse(503, "power", "pc1: power is not proved off", "look at its BMC")
    with pytest.raises(CuckooCriticalError, match=r"Unable to shut 'pc1' down.*look at its BMC"):
        load().initialize()


def test_service_breaks_off_while_cape_starts(load: Load, service: Service) -> None:
    service.acts["/v1/hosts/pc1"] = answer(200, host("pc1"))
    service.hosts["pc1"] = host("pc1", state="running", run=True)

    def once(handler: Handler) -> None:
        service.acts["/v1/hosts"] = refuse(500, "crash", "sorry")
        handler.reply(200, list(service.hosts.values()))

    service.acts["/v1/hosts"] = once
    with pytest.raises(CuckooMachineError, match="list of hosts: sorry"):
        load().initialize()


def test_hang_is_bounded(load: Load, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = load()
    plugin.options.get("zfsiscsi").update(start_timeout="0.2", stop_timeout="0.2")
    monkeypatch.setattr(transport, "MARGIN", 0.2)
    monkeypatch.setitem(type(plugin).start.__globals__, "STOP_MARGIN", 0.2)
    service.acts.update(start=hang, stop=hang)
    assert "did not answer" in refused(plugin, "start")
    assert "did not answer" in refused(plugin, "stop")


def test_nothing_of_cape_stays_behind(plugin: Machinery) -> None:
    assert plugin.module_name
    assert not [name for name in sys.modules if name == "lib" or name.startswith("lib.")]
    assert "cuckoo_zfsiscsi.cape.machinery" not in sys.modules


def test_shim_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """CAPE only prints an ImportError; this it shows, and ends."""
    with monkeypatch.context() as patch:
        patch.setattr(cape_standin, "_load", fail_on_our_package(cape_standin._load))
        fix = f"zfsiscsi cape install --cape-root .* --cape-python {sys.executable}"
        with pytest.raises(CuckooCriticalError, match=rf"(?s)can't be loaded: .*{fix}"):
            load_plugin(Path("unused"))
    assert not [name for name in sys.modules if name == "lib" or name.startswith("lib.")]


def fail_on_our_package(load: Callable[[Path], ModuleType]) -> Callable[[Path], ModuleType]:
    def _load(path: Path) -> ModuleType:
        if path.stem == "machinery":
            return ModuleType("one without ZfsIscsi")
        sys.modules["cuckoo_zfsiscsi.cape.machinery"] = None  # type: ignore[assignment]
        return load(path)

    return _load
