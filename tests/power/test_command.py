"""Programs that do as documented, and such that do not."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote_plus

import pytest
from pydantic import SecretStr

from cuckoo_zfsiscsi.config import PowerUrl
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import (
    ConfigError,
    DeadlineExceededError,
    PowerError,
    TransientPowerError,
)
from cuckoo_zfsiscsi.power import Driver, PowerState
from cuckoo_zfsiscsi.power.command import Command, connect
from tests.waiting import HANG

RELAY = """\
#!/bin/sh
# relay BOARD ACTION, with what the environment says
cd "$(dirname "$0")"
echo "$@" >>asked
env | grep ^ZFSISCSI_ | sort >environment
[ -e slow ] && sleep 600
[ -e fail ] && { echo "board on fire, password $ZFSISCSI_PASSWORD" >&2; exit "$(cat fail)"; }
case "$2" in
status) cat state ;;
*) echo "$2" >state ;;
esac
"""


@pytest.fixture
def relay(tmp_path: Path) -> Path:
    path = tmp_path / "relay"
    path.write_text(RELAY)
    path.chmod(0o755)
    (tmp_path / "state").write_text("off\n")
    return path


def driver(relay: Path, **options: str) -> Command:
    words = "&".join(f"{name}={quote_plus(value)}" for name, value in options.items())
    url = PowerUrl.parse(f"command://{relay}?{words}")
    return connect(url, SecretStr("s3cret"))


def test_switches_and_tells(relay: Path) -> None:
    one: Driver = driver(relay, args="'board 2'")
    assert one.query(deadline=Deadline(HANG)) is PowerState.OFF
    one.request(PowerState.ON, deadline=Deadline(HANG))
    assert one.query(deadline=Deadline(HANG)) is PowerState.ON
    asked = (relay.parent / "asked").read_text().splitlines()
    assert asked == ["board 2 status", "board 2 on", "board 2 status"]


def test_environment(relay: Path) -> None:
    one = driver(relay, args="2", label="pc1", mac="00:11:22:33:44:55", ip="10.99.0.11")
    one.request(PowerState.ON, deadline=Deadline(HANG))
    assert (relay.parent / "environment").read_text().splitlines() == [
        "ZFSISCSI_ACTION=on",
        "ZFSISCSI_IP=10.99.0.11",
        "ZFSISCSI_LABEL=pc1",
        "ZFSISCSI_MAC=00:11:22:33:44:55",
        "ZFSISCSI_PASSWORD=s3cret",
        f"ZFSISCSI_TIMEOUT={HANG:.0f}",
    ]


@pytest.mark.parametrize(("code", "kind"), [("75", TransientPowerError), ("1", PowerError)])
def test_exit_codes(relay: Path, code: str, kind: type[PowerError]) -> None:
    (relay.parent / "fail").write_text(code)
    with pytest.raises(PowerError, match=rf"ended with {code} and said 'board on fire") as failed:
        driver(relay, args="2").request(PowerState.OFF, deadline=Deadline(HANG))
    assert type(failed.value) is kind
    assert "s3cret" not in str(failed.value)
    assert f"{relay} 2 off" in failed.value.fix


@pytest.mark.parametrize("said", ["", "maybe", "on off", "offline", "1"])
def test_unknown_answer_is_never_off(relay: Path, said: str) -> None:
    (relay.parent / "state").write_text(said)
    with pytest.raises(PowerError, match="it must print on or off"):
        driver(relay, args="2").query(deadline=Deadline(HANG))


def test_killed_at_the_deadline(relay: Path) -> None:
    (relay.parent / "slow").touch()
    with pytest.raises(DeadlineExceededError):
        driver(relay, args="2").query(deadline=Deadline(0.5))


def test_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PowerError, match=r"can't run .*No such file") as missing:
        driver(tmp_path / "nothing").query(deadline=Deadline(HANG))
    assert "chmod" in missing.value.fix


def test_what_it_tells(relay: Path) -> None:
    assert driver(relay).can.tell == set(PowerState)
    assert driver(relay, tell="off").can.tell == {PowerState.OFF}
    assert driver(relay, tell="no").can.tell == set()


def test_who_waits_for_whom(relay: Path) -> None:
    one, two = driver(relay, args="1"), driver(relay, args="2")
    assert one.peer != two.peer
    assert driver(relay, args="1", device="b").peer == driver(relay, args="2", device="b").peer


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("command://host", "no absolute path"),
        ("command:///bin/x?args='", "args: No closing quotation"),
        ("command:///bin/x?tell=yes", "tell is not right"),
        ("command:///bin/x?shell=yes", "no option shell"),
    ],
)
def test_configuration(url: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        connect(PowerUrl.parse(url), None)
