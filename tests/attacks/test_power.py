"""A host whose power device lies, or is in a guest's hand; and guests that play dead for it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cape.transport import ServiceError
from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError, QuarantinedError
from cuckoo_zfsiscsi.lab.network import host_address, mac
from cuckoo_zfsiscsi.power import Driver, PowerState, pdu
from cuckoo_zfsiscsi.power.connect import make_driver
from cuckoo_zfsiscsi.power.ways import Ways
from cuckoo_zfsiscsi.service.report import State
from tests.clocks import RealClock
from tests.config.sample import EXAMPLE
from tests.faults.farm import Farm
from tests.faults.forked import ForkServer
from tests.faults.patience import SERVICE
from tests.power.fakes import PDU, WAKE, Eyes, Outlet, proved
from tests.power.played import Pace, Played
from tests.power.plug import Plug
from tests.power.redfish import FakeRedfish
from tests.waiting import HANG, wait

CUT = 30
"""Seconds after which a cut that can't be proved is given up; one that can takes two."""
RESPONDER = Path(__file__).with_name("arp_responder.py")
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
        ways: list[Driver] = [bmc.driver(system="1", fingerprint=bmc.fingerprint), outlet]
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


class Cable:
    """The cable of pc1's namespace: plugged in as long as its machine has power.

    A namespace answers ARP whether a machine is played in it or not.
    """

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self.is_cut = False
        """It is out although the machine is on: as if its kernel dropped every packet."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self._set("down")
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join()

    def _follow(self) -> None:
        before = "down"
        while not self._end.wait(0.02):
            is_on = self._farm.machines["pc1"].pid is not None and not self.is_cut
            now = "up" if is_on else "down"
            if now != before:
                self._set(now)
                before = now

    def _set(self, state: str) -> None:
        where = f"{self._farm.network.name}-1"
        subprocess.run(["ip", "-n", where, "link", "set", "eth0", state], check=True)


class Site(Farm):
    """Two hosts of the real service, both in a run. pc1 is looked for by ARP, too."""

    cable: Cable

    def open(self) -> None:
        super().open()
        text = self.conf.read_text().replace("power_signs = ", "power_signs = arp,", 1)
        self.conf.write_text(re.sub("power_timeout = .*", f"power_timeout = {CUT}", text))
        self.cable = Cable(self)
        self.start()
        self.wait(lambda: set(self.states().values()) == {"clean"}, "the first disks")
        for label in self.labels:
            self.client.start(label, SERVICE)

    def close(self) -> None:
        sys.stdout.write(self.seen())  # pytest shows it when the test has failed
        self.cable.close()
        super().close()

    def reason(self) -> str:
        """Return why pc1 is quarantined."""
        return str(self.client.host("pc1")["reason"])


@pytest.fixture
def site(tmp_path: Path, forks: ForkServer) -> Iterator[Site]:
    made = Site(tmp_path, 2, forks, SERVICE)
    try:
        made.open()
        yield made
    finally:
        made.close()


@contextmanager
def silent(site: Site) -> Iterator[None]:
    """Have the guest of pc1 play dead: neither RPC nor agent, ARP nor ping; its session is idle."""
    pid, knob = site.machines["pc1"].pid, "net/ipv4/conf/all/arp_ignore"
    assert pid
    os.kill(pid, signal.SIGSTOP)
    namespace = ["ip", "netns", "exec", f"{site.network.name}-1"]
    subprocess.run([*namespace, "sysctl", "-qw", f"{knob}=8"], check=True)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        subprocess.run([*namespace, "sysctl", "-qw", f"{knob}=0"], check=True)


def test_a_guest_that_plays_dead_at_an_outlet_that_lies(site: Site) -> None:
    """The outlet feeds another machine, and the guest is silent for the moment of the cut.

    Before: power was "proved off", and two clean boots followed in one uptime of the guest.
    Now: its kernel answers on the idle session: the stop says that the host lives.
    """
    generation = site.client.host("pc1")["generation"]
    site.fault("pc1", "lies")
    with silent(site):
        with pytest.raises(ServiceError, match=r"not yet proved off|session goes on"):
            site.client.stop("pc1", SERVICE)
        assert site.states()["pc1"] == "quarantined"
        site.wait(lambda: "its iSCSI session goes on" in site.reason(), "the reason")
        assert site.client.host("pc1")["generation"] == generation
    site.fault("pc1", "")
    site.client.reset("pc1")
    site.wait(lambda: site.states()["pc1"] == "clean", "healing")
    assert site.machines["pc1"].pid is None


def test_a_guest_that_wakes_before_the_next_boot(site: Site) -> None:
    """As before, but it drops all packets at the cut, and speaks again before the next start.

    Before: its script was armed, and it was switched "on".
    Now: the last look before power-on sees it: no script is armed, and it is cut again.
    """
    site.fault("pc1", "lies")
    site.cable.is_cut = True
    site.client.stop("pc1", SERVICE)
    site.wait(lambda: site.states()["pc1"] == "clean", "the reset")
    site.fault("pc1", "")
    assert site.machines["pc1"].pid is not None
    site.cable.is_cut = False
    with pytest.raises(ServiceError, match="was proved off, but it") as told:
        site.client.start("pc1", SERVICE)
    assert "zfsiscsi power pc1 test" in told.value.fix
    site.wait(lambda: site.machines["pc1"].pid is None, "the cut")
    site.client.reset("pc1")
    site.wait(lambda: site.states()["pc1"] == "clean", "healing")
    site.client.start("pc1", SERVICE)


@contextmanager
def answering(site: Site) -> Iterator[None]:
    """Have malware on pc2 answer ARP for the address of pc1."""
    argv = ["ip", "netns", "exec", f"{site.network.name}-2", sys.executable, str(RESPONDER)]
    argv += [mac(2), str(host_address(1))]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as malware:
        try:
            assert malware.stdout
            assert malware.stdout.readline() == b"ready\n"
            yield
        finally:
            malware.kill()


@pytest.mark.parametrize("takes_all", [False, True], ids=["ARP", "address and services"])
def test_a_sibling_that_answers_for_a_host_that_is_off(site: Site, takes_all: bool) -> None:
    """A sibling answers ARP for a host whose power is cut, or takes its address altogether.

    Before: the host was quarantined as long as it went on, and nobody was named.
    Now: the host is proved off by what that can't forge; the sibling is named.
    """
    with ExitStack() as undo:
        if takes_all:
            where = ["addr", "add", f"{host_address(1)}/32", "dev", "eth0"]
            subprocess.run(["ip", "-n", f"{site.network.name}-2", *where], check=True)
        else:
            undo.enter_context(answering(site))
        site.client.stop("pc1", SERVICE)
        site.wait(lambda: site.states()["pc1"] == "clean", "the reset")
    assert f"pc2 ({mac(2)}) answers ARP for pc1, {host_address(1)}" in site.log.read_text()
    (last, *_) = [
        event["what"] for event in site.client.history(host="pc1", kind="power") if event["ok"]
    ]
    assert f"not counted: {mac(2)}, the card of pc2, answers ARP for it" in last


def test_a_stick_in_the_host(site: Site) -> None:
    """Malware has left a boot loader on a stick: the host comes up from it, and asks for nothing.

    Before: "no dhcp": look at the firmware, the cable, the MAC address.
    Now: it says what is so, and what to take out.
    """
    site.client.stop("pc1", SERVICE)
    site.play("pc1", "--no-login")
    with pytest.raises(
        ServiceError, match="no dhcp, though its RPC answers: it booted from"
    ) as told:
        site.client.start("pc1", 2 * SERVICE)
    assert "USB sticks" in told.value.fix
    assert site.machines["pc1"].pid is None


def test_a_guest_that_was_never_switched_on() -> None:
    """A host is woken by Wake-on-LAN, which nobody acknowledges; its guest lives, and asks DHCP.

    Before: its answer to ARP, or that request, proved that it was switched on.
    Now: what was there before proves nothing.
    """
    wake, outlet, eyes = Outlet(WAKE), Outlet(PDU), Eyes()
    eyes.sign, eyes.booted = "it answers ARP", "dhcp request"
    power = Ways("pc1", [proved(wake, eyes)], [proved(outlet, eyes)], eyes)
    with pytest.raises(PowerError, match="no new sign of a boot"):
        power.on(deadline=Deadline(3))
