"""A host whose power device lies, or is in a guest's hand; and guests that play dead for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError, QuarantinedError
from cuckoo_zfsiscsi.power import PowerState, pdu
from cuckoo_zfsiscsi.power.connect import make_driver
from cuckoo_zfsiscsi.service.report import State
from tests.clocks import RealClock
from tests.config.sample import EXAMPLE
from tests.power.fakes import Outlet
from tests.power.played import Pace, Played
from tests.power.plug import Plug
from tests.power.redfish import FakeRedfish
from tests.waiting import HANG, wait

NESTED = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
"""What makes Python's parser of JSON recurse until it gives up."""


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[FakeRedfish]:
    """Make a Redfish BMC."""
    with FakeRedfish(tmp_path / "bmc").serving() as one:
        yield one


@pytest.fixture
def played(bmc: FakeRedfish) -> Iterator[Played]:
    """Make a host in front of which that BMC stands; it has an outlet, too."""
    with ExitStack() as undo:
        pace = Pace(scale=1 / 100, given=HANG)
        undo.enter_context(pace.applied())
        host = Played("pc1", pace, RealClock())
        outlet = Outlet()
        bmc.systems.effect = lambda _system, on: host.switch(on)
        outlet.effect = lambda state: host.switch(state is PowerState.ON)
        ways = [bmc.driver(system="1", fingerprint=bmc.fingerprint), outlet]
        host.connect(ways, ways, 0.0)
        undo.callback(host.close)
        yield host


def test_an_answer_that_ends_its_parser(bmc: FakeRedfish, played: Played) -> None:
    """A BMC's answer is nested so deeply that its parser gives up (RecursionError).

    Before: the host's thread was gone for good; its second power device was never tried.
    Now: the second device cuts, and the host goes on.
    """
    assert played.wait(State.CLEAN, HANG)
    played.run()
    bmc.body = NESTED
    played.clock.result(played.host.stop())
    assert played.world.power is PowerState.OFF
    assert played.wait(State.CLEAN, HANG)
    bmc.body = b""
    played.run()
    assert played.booted == sorted(set(played.booted))


def test_a_password_that_was_changed(tmp_path: Path) -> None:
    """Malware reaches the BMC (KCS) and sets another password: the service's is refused.

    Before: each retry of each host tried it again, until the BMC locked the account.
    Now: it is tried once, whoever asks, until the password or a person says otherwise.
    """
    secret = tmp_path / "password"
    secret.touch(0o600)
    with FakeRedfish(tmp_path / "bmc").serving() as bmc, ExitStack() as undo:
        secret.write_text(bmc.password)
        pace = Pace(scale=1 / 100, given=HANG)
        undo.enter_context(pace.applied())
        host = Played("pc1", pace, RealClock())
        bmc.systems.effect = lambda _system, on: host.switch(on)
        url = bmc.url(system="1", fingerprint=bmc.fingerprint)
        section = load(EXAMPLE).hosts[0].model_copy(update={"power_password_file": secret})
        driver = make_driver(section, url)
        host.connect([driver], [driver], 0.0)
        undo.callback(host.close)
        assert host.wait(State.CLEAN, HANG)
        host.run()
        bmc.allow("admin", "malware's")
        with pytest.raises(QuarantinedError, match="refuses the user or the password"):
            host.clock.result(host.host.stop())
        asked = len(bmc.requests)
        wait(lambda: host.host.report().reason.count("not tried again"), what="no retry")
        assert len(bmc.requests) == asked
        secret.write_text("malware's")
        assert host.wait(State.CLEAN, HANG)


@pytest.mark.parametrize(
    "page",
    ["<html>Please log in: <input name=password></html>", '{"POWER":"ON"}', "on", "", "moved"],
    ids=["login page", "Tasmota", "on", "empty", "redirect"],
)
@pytest.mark.parametrize("model", ["rest", "simplerest"])
def test_a_strip_that_says_something_else(model: str, page: str) -> None:
    """The outlet is on, and its strip answers with a login page, a redirect or JSON of its own.

    Before: all of that was "off": labgrid compares the text with "1".
    Now: it is an error, which says what was said; only 0 is off.
    """
    with Plug().serving() as plug:
        plug.page, plug.moved = page, page == "moved"
        path = "/relay/{index}/value" if model == "rest" else "/relay/{index}/{value}"
        outlet = pdu.connect(plug.url(model, path=path), None)
        with pytest.raises(PowerError, match=r"it says|it redirects to"):
            outlet.query(deadline=Deadline(HANG))
