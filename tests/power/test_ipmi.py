"""The driver against a real BMC, real ipmitool in between."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
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
from cuckoo_zfsiscsi.power import Driver, PowerState
from cuckoo_zfsiscsi.power.ipmi import connect
from tests.power.bmc import Bmc, free_port
from tests.processes import processes, watched
from tests.waiting import HANG, wait


def test_switches_and_tells(bmc: Bmc) -> None:
    driver: Driver = bmc.driver()
    assert driver.peer == f"ipmi://127.0.0.1:{bmc.port}"
    assert driver.query(deadline=Deadline(HANG)) is PowerState.OFF
    driver.request(PowerState.ON, deadline=Deadline(HANG))
    assert bmc.power == "1"
    assert driver.query(deadline=Deadline(HANG)) is PowerState.ON
    driver.request(PowerState.OFF, deadline=Deadline(HANG))
    assert bmc.power == "0"
    assert [what for _, what in bmc.commands()] == [
        "get power", "set power 1", "get power", "set power 0",
    ]  # fmt: skip


def test_password_is_seen_nowhere(bmc: Bmc, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    driver, port = bmc.driver(), f"{bmc.port}".encode()

    def until_seen(word: bytes) -> None:
        ours = (b"ipmitool", port, word)
        wait(
            lambda: any(all(one in line for one in ours) for line in set(seen)),
            what=f"ipmitool is never seen with {word!r}",
        )

    with watched() as seen, ThreadPoolExecutor() as pool:
        with bmc.frozen():
            asked = pool.submit(driver.request, PowerState.ON, deadline=Deadline(HANG))
            until_seen(b"\0on\0")
        asked.result(HANG)
        with bmc.frozen():
            told = pool.submit(driver.query, deadline=Deadline(HANG))
            until_seen(b"\0status\0")
        told.result(HANG)
        with pytest.raises(PowerError) as wrong:
            bmc.driver(password=bmc.password[::-1] + "x").query(deadline=Deadline(HANG))
    for secret in (bmc.password, bmc.password[::-1] + "x"):
        assert not [line for line in seen if secret.encode() in line]
        assert secret not in str(wrong.value) + repr(wrong.value) + repr(vars(driver))
        assert secret not in caplog.text


@pytest.mark.parametrize(
    ("user", "options", "what", "fix"),
    [
        ("admin", {}, "refuses the user or the password", "chassis power status"),
        ("nobody", {}, "refuses the user or the password", "chassis power status"),
        ("admin", {"cipher": "17"}, "does not support the cipher suite", "cipher=3"),
    ],
)
def test_refused(bmc: Bmc, user: str, options: dict[str, str], what: str, fix: str) -> None:
    with pytest.raises(PowerError, match=what) as refused:
        bmc.driver(user=user, password="wrong", **options).query(deadline=Deadline(HANG))
    assert not isinstance(refused.value, TransientPowerError)
    assert f"ipmi://127.0.0.1:{bmc.port} as {user}: chassis power status" in refused.value.what
    assert fix in refused.value.fix


def test_user_without_the_privilege(bmc: Bmc) -> None:
    driver = bmc.driver(level="user")
    assert driver.query(deadline=Deadline(HANG)) is PowerState.OFF
    with pytest.raises(PowerError, match="does not let this user switch power"):
        driver.request(PowerState.ON, deadline=Deadline(HANG))
    assert bmc.power == "0"


def test_chassis_that_fails_is_no_state(bmc: Bmc) -> None:
    bmc.fault("crash")
    with pytest.raises(PowerError, match="said 'Get Chassis Power Status failed"):
        bmc.driver().query(deadline=Deadline(HANG))


def test_nobody_there() -> None:
    url = PowerUrl("ipmi", "127.0.0.1", "admin", free_port(), {"timeout": "1", "tries": "1"})
    with pytest.raises(TransientPowerError, match="does not answer") as silent:
        connect(url, SecretStr("secret")).query(deadline=Deadline(HANG))
    assert "UDP 623" in silent.value.fix


def test_dead_bmc_ends_with_the_deadline(bmc: Bmc) -> None:
    with bmc.frozen(), pytest.raises(DeadlineExceededError, match="chassis power status took"):
        bmc.driver(timeout="99").query(deadline=Deadline(0.5))


def test_slow_bmc_is_waited_for(bmc: Bmc) -> None:
    bmc.fault("slow", "2")
    assert bmc.driver().query(deadline=Deadline(HANG)) is PowerState.OFF


def test_cancelled_at_once_and_nothing_left(bmc: Bmc) -> None:
    cancel, port = Cancel(), f"{bmc.port}".encode()

    def running() -> list[bytes]:
        return [line for line in processes().values() if b"ipmitool" in line and port in line]

    def end() -> None:
        wait(running, what="ipmitool never ran")
        cancel.set("stop")

    with bmc.frozen(), ThreadPoolExecutor() as pool:
        ending = pool.submit(end)
        with pytest.raises(CancelledError, match="given up, stop"):  # and not ipmitool's own end
            bmc.driver(timeout="99").query(deadline=Deadline(HANG, cancel))
        ending.result(HANG)
    assert not running()


def test_no_ipmitool(bmc: Bmc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PowerError, match="can't run ipmitool: No such file") as missing:
        bmc.driver().query(deadline=Deadline(HANG))
    assert missing.value.fix == "apt install ipmitool"


def fake_ipmitool(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "ipmitool"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    "output",
    [
        "",
        "Chassis Power is off, or so",
        "not Chassis Power is off",
        "Chassis Power is",
        "Chassis Power is unknown",
        "chassis power is off",
        "Chassis Power is off\\nChassis Power is on",
    ],
)
def test_strange_output_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    fake_ipmitool(tmp_path, f"printf '{output}\\n'", monkeypatch)
    with pytest.raises(PowerError, match="ipmitool ended with 0 and said"):
        Bmc(tmp_path / "bmc").driver().query(deadline=Deadline(HANG))


def test_exit_code_counts_more_than_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ipmitool(tmp_path, "echo Chassis Power is off; exit 1", monkeypatch)
    with pytest.raises(PowerError, match="ended with 1"):
        Bmc(tmp_path / "bmc").driver().query(deadline=Deadline(HANG))


def test_already_so_counts_as_asked_but_not_as_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "Chassis Power Control to Down/Off failed: Command not supported in present state"
    fake_ipmitool(tmp_path, f"echo Set {said} >&2; exit 1", monkeypatch)
    driver = Bmc(tmp_path / "bmc").driver()
    driver.request(PowerState.OFF, deadline=Deadline(HANG))
    with pytest.raises(PowerError, match="Command not supported"):
        driver.query(deadline=Deadline(HANG))


@pytest.mark.parametrize(
    ("url", "secret", "what"),
    [
        (PowerUrl("ipmi", "10.0.0.1"), "x", "no user"),
        (PowerUrl("ipmi", "10.0.0.1", "admin"), None, "no password"),
        (PowerUrl("ipmi", "10.0.0.1", "admin"), "", "password is empty or longer"),
        (PowerUrl("ipmi", "10.0.0.1", "admin"), "x" * 21, "password is empty or longer"),
        (PowerUrl("ipmi", "10.0.0.1", "admin", None, {"ciphr": "3"}), "x", "no option ciphr"),
        (PowerUrl("ipmi", "10.0.0.1", "admin", None, {"cipher": "18"}), "x", "cipher is not"),
        (PowerUrl("ipmi", "10.0.0.1", "admin", None, {"level": "root"}), "x", "level is not"),
        (PowerUrl("ipmi", "10.0.0.1", "admin", None, {"timeout": "0"}), "x", "timeout is not"),
        (PowerUrl("ipmi", "10.0.0.1", "admin", None, {"tries": "many"}), "x", "tries is not"),
    ],
)
def test_url_that_cannot_work(url: PowerUrl, secret: str | None, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as wrong:
        connect(url, None if secret is None else SecretStr(secret))
    assert wrong.value.fix
    assert str(url) in wrong.value.what


def test_address_of_version_6_is_readable() -> None:
    url = PowerUrl("ipmi", "fd00::1", "admin", 6230)
    assert connect(url, SecretStr("x")).peer == "ipmi://[fd00::1]:6230"
