from __future__ import annotations

import pytest

from cuckoo_zfsiscsi.config import HostConfig, load
from cuckoo_zfsiscsi.service.dashboard import views
from cuckoo_zfsiscsi.service.report import BootReport, HostReport, State
from tests.config.sample import EXAMPLE


@pytest.fixture
def config() -> HostConfig:
    return load(EXAMPLE).hosts[0]


def report(state: State, boot: BootReport | None = None, **changes: object) -> HostReport:
    values = {
        "label": "pc1", "state": state, "since": 12.0, "reason": "", "step": "booting",
        "warning": "", "image": "win10@1", "generation": 3, "task": "7", "run": True,
        "last_boot": boot,
    }  # fmt: skip
    return HostReport(**{**values, **changes})  # type: ignore[arg-type]


def test_a_boot_is_as_far_as_its_last_stage(config: HostConfig) -> None:
    boot = BootReport("pc1", 3, "win10@1", False, 100.0, {"fence": 0.1, "arm": 0.1})
    card = views.card(report(State.BOOTING, boot), config, [], 40.0)
    assert card.progress == views.Progress(0, 8, 100.0, 40.0)
    assert card.doing == "waiting for power"
    # DHCP may be missed by who listens: what comes later says more.
    boot.stages.update(power=0.2, script=3.0)
    card = views.card(report(State.BOOTING, boot), config, [], None)
    assert card.progress
    assert card.progress.reached == 5
    assert card.doing == "waiting for login"


def test_a_host_that_does_not_boot_has_no_progress(config: HostConfig) -> None:
    boot = BootReport("pc1", 3, "win10@1", False, 100.0, {"power": 0.1})
    card = views.card(report(State.RUNNING, boot, step=""), config, [44.0], 40.0)
    assert (card.progress, card.run, card.doing) == (None, "7", "")
    trouble = report(State.QUARANTINED, None, reason="no power", warning="no spare", run=False)
    card = views.card(trouble, config, [], None)
    assert (card.trouble, card.run, card.sign) == ("no power", "", "✖")


def test_every_state_has_a_sign_of_its_own() -> None:
    assert set(views.SIGNS) == set(State)
    assert len(set(views.SIGNS.values())) == len(State)


def test_spark() -> None:
    assert views.spark([]) is None
    line = views.spark([40.0, 20.0, 40.0])
    assert line
    assert line.points == "0.0,1.0 36.0,9.0 72.0,1.0"
    assert line.text == "last recovery 40.0 s; the last 3 between 20.0 and 40.0 s"
    one = views.spark([40.0])
    assert one
    assert one.points == "0.0,1.0 72,1.0"


def test_a_timeline_is_the_reset_then_the_boot() -> None:
    stages = {"fence": 0.5, "swap": 0.25, "arm": 0.25, "rpc": 9.0, "power": 1.0, "agent": 9.0}
    bars = views.timeline(BootReport("pc1", 1, "win10@1", False, 0.0, stages))
    assert [(bar.name, bar.seconds, bar.at) for bar in bars] == [
        ("fence", 0.5, 0.5),
        ("swap", 0.25, 0.75),
        ("arm", 0.25, 1.0),
        ("power", 1.0, 2.0),
        ("rpc", 8.0, 10.0),
        ("agent", 0.0, 10.0),
    ]
    assert (bars[4].x, bars[4].width) == (200.0, 800.0)
    assert views.timeline(BootReport("pc1", 1, "win10@1", False)) == []
