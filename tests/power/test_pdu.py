"""Labgrid's models against devices: Shelly Gen 2, a REST relay, an APC by SNMP."""

from __future__ import annotations

import logging
import os
import pkgutil
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import labgrid.driver.power
import pytest
from pydantic import SecretStr

from cuckoo_zfsiscsi.config import PowerUrl
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import (
    CancelledError,
    ConfigError,
    PowerError,
    TransientPowerError,
)
from cuckoo_zfsiscsi.power import Driver, PowerState
from cuckoo_zfsiscsi.power.pdu import Pdu, connect
from tests.power.bmc import free_port
from tests.power.plug import Plug
from tests.processes import watched
from tests.waiting import HANG, wait

AGENT = Path(__file__).with_name("snmp_agent.py")
OUTLET_3 = "1.3.6.1.4.1.318.1.1.4.4.2.1.3.3"
REST = {"path": "/relay/{index}/value"}


@pytest.fixture
def plug() -> Iterator[Plug]:
    with Plug().serving() as one:
        yield one


def driver(url: PowerUrl, password: str = "") -> Pdu:
    return connect(url, SecretStr(password) if password else None)


@pytest.mark.parametrize(
    ("model", "options"),
    [("shelly_gen2", {}), ("rest", REST)],
)
def test_switches_and_tells(plug: Plug, model: str, options: dict[str, str]) -> None:
    one: Driver = driver(plug.url(model, **options))
    assert one.peer == f"pdu+{model}://127.0.0.1:{plug.port}"
    one.request(PowerState.OFF, deadline=Deadline(HANG))
    assert plug.outlets == {0: True, 1: False, 2: True, 3: True}
    assert one.query(deadline=Deadline(HANG)) is PowerState.OFF
    one.request(PowerState.ON, deadline=Deadline(HANG))
    assert one.query(deadline=Deadline(HANG)) is PowerState.ON
    assert one.can.tell == {PowerState.OFF}  # with mains nobody knows


@pytest.fixture
def never_used_snmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let net-snmp's tools find the machine as it is before their first use."""
    for name in ("snmpget", "snmpset"):
        fresh = tmp_path / "bin" / name
        fresh.parent.mkdir(exist_ok=True)
        real = f'exec {shutil.which(name)} "$@"'
        fresh.write_text(
            "#!/bin/sh\nexec unshare --mount sh -c "
            f"'mount -t tmpfs none /var/lib/snmp && {real}' {name} \"$@\"\n"
        )
        fresh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


@pytest.mark.usefixtures("never_used_snmp")
def test_snmp(tmp_path: Path) -> None:
    port, state = free_port(), tmp_path / "state"
    state.write_text("1")
    argv = [sys.executable, str(AGENT), str(port), OUTLET_3, str(state)]
    one = driver(PowerUrl("pdu+apc", "127.0.0.1", None, port, {"outlet": "3", "timeout": "99"}))
    with subprocess.Popen(argv) as agent:
        try:
            udp, bound = Path("/proc/net/udp"), f"0100007F:{port:04X}"
            wait(lambda: bound in udp.read_text(), what="the agent does not listen")
            assert one.query(deadline=Deadline(HANG)) is PowerState.ON
            one.request(PowerState.OFF, deadline=Deadline(HANG))
            assert state.read_text() == "2"
            assert one.query(deadline=Deadline(HANG)) is PowerState.OFF
            wrong = PowerUrl("pdu+apc", "127.0.0.1", None, port, {"outlet": "4", "timeout": "99"})
            with pytest.raises(PowerError):
                driver(wrong).query(deadline=Deadline(HANG))
        finally:
            agent.kill()
    with pytest.raises(TransientPowerError, match=r"does not answer SNMP|no answer in"):
        one.query(deadline=Deadline(HANG))


def test_password_is_seen_nowhere(plug: Plug, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    plug.password = "s3cret/@:%"
    one = driver(plug.url("rest", user="admin", **REST), plug.password)
    with watched() as seen:
        plug.before = lambda: wait(
            lambda: any(b"pdu_child" in line for line in set(seen)), what="no child is seen"
        )
        assert one.query(deadline=Deadline(HANG)) is PowerState.ON
        with pytest.raises(PowerError, match="HTTP 401") as refused:
            driver(plug.url("rest", user="admin", **REST), "wr0ng/").query(deadline=Deadline(HANG))
    assert not isinstance(refused.value, TransientPowerError)
    assert "password" in refused.value.fix
    for secret in (plug.password, "wr0ng/", "wr0ng%2F"):
        assert not [line for line in seen if secret.encode() in line]
        assert secret not in str(refused.value) + caplog.text + repr(vars(one))


@pytest.mark.parametrize(("status", "kind"), [(500, TransientPowerError), (404, PowerError)])
def test_http_errors(plug: Plug, status: int, kind: type[PowerError]) -> None:
    plug.status = status
    with pytest.raises(PowerError, match=f"outlet 1: on: HTTP {status}") as failed:
        driver(plug.url()).request(PowerState.ON, deadline=Deadline(HANG))
    assert type(failed.value) is kind


def test_unknown_answer_is_never_off(plug: Plug) -> None:
    plug.nonsense = True
    with pytest.raises(PowerError, match="it says 'maybe'"):
        driver(plug.url()).query(deadline=Deadline(HANG))


def test_a_line_s_end_is_no_other_word(plug: Plug) -> None:
    plug.page = "1\n"
    assert driver(plug.url("rest", **REST)).query(deadline=Deadline(HANG)) is PowerState.ON


def test_who_is_redirected_has_switched_nothing(plug: Plug) -> None:
    plug.moved = True
    with pytest.raises(PowerError, match=r"outlet 1: off: it redirects to http://.*/login"):
        driver(plug.url("rest", **REST)).request(PowerState.OFF, deadline=Deadline(HANG))


def test_slow_and_silent_ones(plug: Plug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug.delay = HANG
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(TransientPowerError, match="no answer in 2 s"):
        driver(plug.url(timeout="2")).query(deadline=Deadline(HANG))
    assert not list(tmp_path.iterdir()), "left behind by a child that was killed"
    cancel = Cancel()
    threading.Timer(0.5, cancel.set, ("stop",)).start()
    with pytest.raises(CancelledError):
        driver(plug.url()).query(deadline=Deadline(HANG, cancel))
    nobody = PowerUrl(
        "pdu+shelly_gen2", "127.0.0.1", None, free_port(), {"outlet": "0", "timeout": "99"}
    )
    with pytest.raises(TransientPowerError, match="does not answer"):
        driver(nobody).query(deadline=Deadline(HANG))


def test_model_that_is_not_there(plug: Plug) -> None:
    with pytest.raises(PowerError, match=r"needs labgrid\.driver\.power\.telepathy") as missing:
        driver(plug.url("telepathy")).query(deadline=Deadline(HANG))
    assert "cuckoo-zfsiscsi[pdu]" in missing.value.fix


def test_every_model_of_labgrid_has_a_name() -> None:
    models = [module.name for module in pkgutil.iter_modules(labgrid.driver.power.__path__)]
    assert len(models) > 20
    for model in models:
        url = PowerUrl.parse(f"pdu+{model}://h?outlet=1")
        assert driver(url).peer == f"pdu+{model}://h"


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("pdu://h?outlet=1", "no model"),
        ("pdu+x://h", "no outlet"),
        ("pdu+x://h?outlet=all", "outlet is not right"),
        ("pdu+x://h?outlet=1&index=2", "no option index"),
    ],
)
def test_configuration(url: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        driver(PowerUrl.parse(url))
