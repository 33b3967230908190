"""Whoever was refused is not tried again, until something has changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError, RefusedPowerError, TransientPowerError
from cuckoo_zfsiscsi.power import Aimed, PowerState
from cuckoo_zfsiscsi.power.connect import make_driver, make_power
from cuckoo_zfsiscsi.power.refusal import OnceRefused
from tests.power.config import host_config
from tests.power.redfish import FakeRedfish
from tests.waiting import HANG


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[FakeRedfish]:
    with FakeRedfish(tmp_path / "bmc").serving() as one:
        yield one


def host(bmc: FakeRedfish, secret: Path, label: str = "pc1", **options: str) -> HostConfig:
    url = bmc.url(system="1", fingerprint=bmc.fingerprint, **options)
    return host_config(url, secret, label, power_interval=0)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_text("wrong\n")
    return path


def test_it_is_tried_once(bmc: FakeRedfish, secret: Path) -> None:
    power = make_power(host(bmc, secret))
    with pytest.raises(RefusedPowerError, match="HTTP 401"):
        power.off(deadline=Deadline(HANG))
    asked = len(bmc.requests)
    for again in (power, make_power(host(bmc, secret, "pc2"))):  # another host, the same account
        for act in (again.off, again.on, again.status):
            with pytest.raises(RefusedPowerError, match=r"HTTP 401.*not tried again") as known:
                act(deadline=Deadline(HANG))
            assert "by hand: zfsiscsi power" in known.value.fix
    assert len(bmc.requests) == asked


def test_another_password_is_tried(bmc: FakeRedfish, secret: Path) -> None:
    power = make_power(host(bmc, secret))
    with pytest.raises(RefusedPowerError):
        power.status(deadline=Deadline(HANG))
    secret.write_text(f"{bmc.password}\n")
    assert power.status(deadline=Deadline(HANG)) is PowerState.OFF
    secret.write_text("wrong\n")  # what works goes on working
    assert power.status(deadline=Deadline(HANG)) is PowerState.OFF


def test_one_that_can_not_be_read_is_no_other(bmc: FakeRedfish, secret: Path) -> None:
    power = make_power(host(bmc, secret))
    with pytest.raises(RefusedPowerError):
        power.status(deadline=Deadline(HANG))
    asked = len(bmc.requests)
    secret.unlink()
    with pytest.raises(PowerError, match="power_password_file"):
        power.status(deadline=Deadline(HANG))
    assert len(bmc.requests) == asked


def test_a_person_may_try(bmc: FakeRedfish, secret: Path) -> None:
    power = make_power(host(bmc, secret))
    with pytest.raises(RefusedPowerError):
        power.status(deadline=Deadline(HANG))
    bmc.allow("admin", "wrong")
    with pytest.raises(RefusedPowerError):
        power.status(deadline=Deadline(HANG))
    power.forget_refusals()
    assert power.status(deadline=Deadline(HANG)) is PowerState.OFF


def test_other_failures_are_not_remembered(bmc: FakeRedfish, secret: Path) -> None:
    secret.write_text(f"{bmc.password}\n")
    driver = make_driver(host(bmc, secret), bmc.url(system="1", fingerprint=bmc.fingerprint))
    assert isinstance(driver, OnceRefused)
    bmc.status = [503]
    with pytest.raises(TransientPowerError):
        driver.query(deadline=Deadline(HANG))
    assert driver.query(deadline=Deadline(HANG)) is PowerState.OFF


@pytest.mark.parametrize("is_aimed", [False, True])
def test_it_is_aimed_if_its_driver_is(bmc: FakeRedfish, secret: Path, is_aimed: bool) -> None:
    secret.write_text(f"{bmc.password}\n")
    options = {"boot": "network"} if is_aimed else {}
    url = bmc.url(system="1", fingerprint=bmc.fingerprint, **options)
    driver = make_driver(host(bmc, secret), url)
    assert isinstance(driver, Aimed) is is_aimed
    if isinstance(driver, Aimed):
        driver.aim(deadline=Deadline(HANG))
        assert bmc.asked("PATCH")
