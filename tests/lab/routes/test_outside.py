"""Every route with real rules, servers and captures: a sample calls from a host without QEMU."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.lab import conf, guest_image
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.command import run
from cuckoo_zfsiscsi.lab.network import FOLDER, Network
from cuckoo_zfsiscsi.lab.routes import outside as module
from cuckoo_zfsiscsi.lab.routes import place as places
from cuckoo_zfsiscsi.lab.routes.outside import Outside, how_to_verify, namespaces
from cuckoo_zfsiscsi.lab.routes.route import Route
from cuckoo_zfsiscsi.lab.server import command, write_secret
from cuckoo_zfsiscsi.lab.watch import inside
from tests.lab.routes.guest import Guest
from tests.waiting import HANG

ANSWERED, DENIED = HANG, 2.0
"""Seconds for which the sample tries."""


@contextlib.contextmanager
def playing(
    network: Network, at: Path, route: Route, *, isolated: bool = True
) -> Iterator[tuple[Outside, Guest]]:
    with Guest(network, at, isolated=isolated) as guest:
        outside = Outside(network, at, route)
        try:
            outside.up()
            yield outside, guest
        finally:
            outside.down()


@pytest.fixture
def network(network_name: Callable[[], str]) -> Iterator[Network]:
    with Network(network_name(), hosts=0) as made:
        yield made


def guard(outside: Outside, at: Path) -> None:
    """Load our firewall on CAPE's server, from a configuration as the lab writes it."""
    (at / "zfsiscsi.conf").write_text(
        conf.render(
            service=f"unix://{at}/api.sock",
            token_file=None,
            run_dir=at / "run",
            storage=conf.FILES.format(at=at),
            interface=net.BRIDGE,
            firmware="bios",
            power="power = ipmi://admin@10.98.0.11",
            password_file=write_secret(at / "password", "secret"),
            prewarm=False,
            way_out=outside.keys,
        )
    )
    outside.guard(command(at))


def test_internet(network: Network, tmp_path: Path) -> None:
    with playing(network, tmp_path, "internet") as (outside, guest):
        guard(outside, tmp_path)
        guest.call_home(DENIED)
        assert outside.seen().answered == ""  # CAPE has not let it out yet
        begun = outside.now()
        outside.enable()
        guest.call_home(ANSWERED)
        seen = outside.seen(begun)
        assert (seen.answered, seen.faults("internet")) == ("C2", [])
        assert set(seen.left) == {str(places.C2), str(places.DNS)}
        outside.disable()
        begun = outside.now()
        guest.call_home(DENIED)
        seen = outside.seen(begun)
        assert (seen.answered, seen.left) == ("", ())


def test_a_private_address_that_is_reached(network: Network, tmp_path: Path) -> None:
    """What must not be is noticed: CAPE's rooter alone lets it be."""
    with playing(network, tmp_path, "internet") as (outside, guest):
        outside.enable()
        guest.call_home(ANSWERED)
        assert outside.seen().faults("internet") == ["a private address was reached"]


@pytest.mark.parametrize("route", ["none", "drop"])
def test_no_way_out(route: Route, network: Network, tmp_path: Path) -> None:
    with playing(network, tmp_path, route) as (outside, guest):
        guard(outside, tmp_path)
        outside.enable()
        guest.call_home(DENIED)
        seen = outside.seen()
        assert (seen.answered, seen.left, seen.faults(route)) == ("", (), [])
        outside.disable()


def test_inetsim(network: Network, tmp_path: Path) -> None:
    with playing(network, tmp_path, "inetsim") as (outside, guest):
        guard(outside, tmp_path)
        outside.enable()
        guest.call_home(ANSWERED)
        seen = outside.seen()
        assert (seen.answered, seen.left, seen.faults("inetsim")) == ("INetSim", (), [])
        outside.disable()


def test_iscsi_that_goes_by_the_gateway_is_seen(network: Network, tmp_path: Path) -> None:
    """What must not be is noticed: here by a guest that has its disk behind the gateway."""
    with playing(network, tmp_path, "none") as (outside, guest):

        def connect(address: str) -> None:
            with contextlib.suppress(OSError), socket.socket() as peer:
                peer.settimeout(0.2)
                peer.connect((address, 3260))

        inside(guest, lambda: connect(str(net.SERVER.ip)))
        seen = outside.seen()
        assert seen.iscsi > 0
        assert seen.iscsi_to_gateway == 0
        inside(guest, lambda: connect("198.51.100.1"))
        assert outside.seen().iscsi_to_gateway > 0


def test_what_is_kept(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the commands that are printed, a user sees the same in it."""
    monkeypatch.setattr(guest_image, "default_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(module, "KEEP", 2)
    with playing(network, tmp_path, "internet") as (outside, guest):
        outside.enable()
        guest.call_home(ANSWERED)
        outside.seen()
        kept = [outside.keep() for _ in range(3)]
    folder = tmp_path / "cache/captures"
    assert len(list(folder.iterdir())) == 2
    assert folder.stat().st_mode & 0o77 == 0
    newest = kept[-1]
    assert newest in set(folder.iterdir())
    assert newest
    iscsi, c2 = (run(["sh", "-c", line], timeout=HANG) for line in how_to_verify(newest))
    assert iscsi == ""
    assert f"> {places.C2}.80: Flags [S]" in c2


def test_nothing_is_left(network: Network, tmp_path: Path) -> None:
    outside = Outside(network, tmp_path / "another", "inetsim")
    outside.down()
    assert outside.keep() is None
    with playing(network, tmp_path, "inetsim") as (outside, _guest):
        assert all((FOLDER / one.name).exists() for one in namespaces(network.name))
        outside.down()
        assert not any((FOLDER / one.name).exists() for one in namespaces(network.name))


def test_a_sibling_that_is_reached(network: Network, tmp_path: Path) -> None:
    """What must not be is noticed: here the switch keeps no port from another."""
    with playing(network, tmp_path, "none", isolated=False) as (outside, guest):
        outside.enable()
        guest.call_home(DENIED)
        assert outside.seen().faults("none") == ["a sibling was reached"]
