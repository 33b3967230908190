"""The driver against sushy-tools' emulator."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from cuckoo_zfsiscsi.config import PowerUrl
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import (
    CancelledError,
    ConfigError,
    DeadlineExceededError,
    PowerError,
    TransientPowerError,
)
from cuckoo_zfsiscsi.lab import certificate
from cuckoo_zfsiscsi.power import Aimed, Driver, PowerState
from cuckoo_zfsiscsi.power.redfish import connect
from tests.power.bmc import free_port
from tests.power.redfish import FakeRedfish
from tests.waiting import HANG


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[FakeRedfish]:
    with FakeRedfish(tmp_path / "redfish").serving() as one:
        yield one


def test_switches_and_tells(bmc: FakeRedfish) -> None:
    driver: Driver = bmc.driver()
    assert driver.peer == f"redfish://127.0.0.1:{bmc.port}"
    assert driver.query(deadline=Deadline(HANG)) is PowerState.OFF
    driver.request(PowerState.ON, deadline=Deadline(HANG))
    assert bmc.systems.power == {"1": True}
    assert driver.query(deadline=Deadline(HANG)) is PowerState.ON
    driver.request(PowerState.OFF, deadline=Deadline(HANG))
    assert bmc.systems.power == {"1": False}
    assert [what for _, what in bmc.requests] == [
        "GET /redfish/v1/Systems",
        "GET /redfish/v1/Systems/1",
        "POST /redfish/v1/Systems/1/Actions/ComputerSystem.Reset",
        "GET /redfish/v1/Systems/1",
        "POST /redfish/v1/Systems/1/Actions/ComputerSystem.Reset",
    ]


def test_one_system_of_several(tmp_path: Path) -> None:
    with FakeRedfish(tmp_path / "many", systems=3).serving() as bmc:
        pin = {"fingerprint": bmc.fingerprint}
        bmc.driver(system="2", **pin).request(PowerState.ON, deadline=Deadline(HANG))
        assert bmc.systems.power == {"1": False, "2": True, "3": False}
        by_path = bmc.driver(system="/redfish/v1/Systems/2", **pin)
        assert by_path.query(deadline=Deadline(HANG)) is PowerState.ON
        with pytest.raises(PowerError, match="several systems: 1, 2, 3") as unclear:
            bmc.driver().query(deadline=Deadline(HANG))
        assert "?system=ID" in unclear.value.fix
        with pytest.raises(PowerError, match="knows no such system"):
            bmc.driver(system="9", **pin).query(deadline=Deadline(HANG))


def test_without_tls(tmp_path: Path) -> None:
    with FakeRedfish(tmp_path / "plain", tls=False).serving() as bmc:
        assert bmc.driver().query(deadline=Deadline(HANG)) is PowerState.OFF


def test_next_boot_from_the_network(bmc: FakeRedfish) -> None:
    driver = bmc.driver(boot="network", fingerprint=bmc.fingerprint)
    assert isinstance(driver, Aimed)
    driver.aim(deadline=Deadline(HANG))
    assert bmc.asked("PATCH /redfish/v1/Systems/1") == 1
    assert not isinstance(bmc.driver(), Aimed)


def test_certificate_of_a_stranger(bmc: FakeRedfish) -> None:
    """Nothing secret is sent; the error tells the fingerprint to compare."""
    stranger = bmc.driver(system="1")
    with pytest.raises(PowerError, match="certificate is not trusted") as refused:
        stranger.query(deadline=Deadline(HANG))
    assert not isinstance(refused.value, TransientPowerError)
    assert f"?fingerprint={bmc.fingerprint}" in refused.value.fix
    with pytest.raises(PowerError, match="certificate is not trusted"):
        bmc.driver(fingerprint="ab" * 32).query(deadline=Deadline(HANG))
    with pytest.raises(PowerError, match="certificate is not trusted"):  # another name's
        bmc.driver(ca=str(bmc.folder / "cert")).query(deadline=Deadline(HANG))
    assert bmc.requests == []


def test_certificate_of_a_file(tmp_path: Path) -> None:
    bmc = FakeRedfish(tmp_path / "known")
    certificate.make(bmc.folder, "IP:127.0.0.1")
    with bmc.serving():
        driver = bmc.driver(ca=str(bmc.folder / "cert"))
        assert driver.query(deadline=Deadline(HANG)) is PowerState.OFF


def test_password_is_seen_nowhere(bmc: FakeRedfish, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bmc.driver().request(PowerState.ON, deadline=Deadline(HANG))
    with pytest.raises(PowerError, match="refuses the user or the password") as wrong:
        bmc.driver(password="wr0ng-one").query(deadline=Deadline(HANG))
    assert not isinstance(wrong.value, TransientPowerError)
    assert "as admin" in wrong.value.what
    for secret in (bmc.password, "wr0ng-one"):
        assert secret not in caplog.text + str(wrong.value) + repr(vars(bmc.driver()))


@pytest.mark.parametrize(
    ("status", "what"), [(500, "a fault of its own"), (503, "busy"), (429, "busy"), (502, "fault")]
)
def test_known_to_go_away(bmc: FakeRedfish, status: int, what: str) -> None:
    driver = bmc.driver()
    bmc.status = [status]
    with pytest.raises(TransientPowerError, match=what):
        driver.query(deadline=Deadline(HANG))
    assert len(bmc.requests) == 1  # sushy itself asks again up to ten times
    assert driver.query(deadline=Deadline(HANG)) is PowerState.OFF


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", b"{}", b'{"PowerState": "Perhaps"}', b'{"PowerState": null}']
)
def test_unknown_answer_is_never_off(bmc: FakeRedfish, body: bytes) -> None:
    driver = bmc.driver()
    driver.query(deadline=Deadline(HANG))
    bmc.body = body or b" "
    with pytest.raises(PowerError, match="is not understood") as unknown:
        driver.query(deadline=Deadline(HANG))
    assert not isinstance(unknown.value, TransientPowerError)


def test_refused_reset_counts_by_the_state(bmc: FakeRedfish) -> None:
    """Some answer 409 to "off" when it is off."""
    driver = bmc.driver()
    driver.query(deadline=Deadline(HANG))
    bmc.status = [409]
    driver.request(PowerState.OFF, deadline=Deadline(HANG))
    bmc.status = [409]
    with pytest.raises(PowerError):
        driver.request(PowerState.ON, deadline=Deadline(HANG))


def test_nobody_there() -> None:
    url = PowerUrl("redfish", "127.0.0.1", "admin", free_port())
    with pytest.raises(TransientPowerError, match="does not answer"):
        connect(url, SecretStr("x")).query(deadline=Deadline(HANG))


def test_deadline_and_cancel_end_the_wait(bmc: FakeRedfish) -> None:
    driver = bmc.driver()
    bmc.delay = HANG
    with pytest.raises((DeadlineExceededError, TransientPowerError)):
        driver.query(deadline=Deadline(0.5))
    cancel = Cancel()
    threading.Timer(0.3, cancel.set, ("stop",)).start()
    with pytest.raises(CancelledError):
        driver.query(deadline=Deadline(HANG, cancel))


def test_slow_answer_is_an_answer(bmc: FakeRedfish) -> None:
    bmc.delay = 1.5
    assert bmc.driver().query(deadline=Deadline(HANG)) is PowerState.OFF


@pytest.mark.parametrize(
    ("url", "secret", "what"),
    [
        ("redfish://h", "x", "no user"),
        ("redfish://u@h", None, "no password"),
        ("redfish://u@h?verify=no", "x", "no option verify"),
        ("redfish://u@h?fingerprint=ab", "x", "fingerprint is not right"),
        ("redfish+ftp://u@h", "x", "no such driver"),
    ],
)
def test_configuration(url: str, secret: str | None, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as wrong:
        connect(PowerUrl.parse(url), SecretStr(secret) if secret else None)
    assert wrong.value.fix
