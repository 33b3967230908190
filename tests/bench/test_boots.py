from __future__ import annotations

from dataclasses import replace

import pytest

from bench import boots
from cuckoo_zfsiscsi.lab import guest_image
from cuckoo_zfsiscsi.lab.capture import Times
from cuckoo_zfsiscsi.lab.way import Dhcp


@pytest.mark.matrix
@pytest.mark.lab
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("row", "server"), [("bios-ipxe", "kea")])
def test_no_secret_wait(row: str, server: Dhcp) -> None:
    """What other tests of the lab do not boot from; the whole table is bench.boots'."""
    image = guest_image.build(guest_image.default_cache(), progress=print)
    boot = boots.ours(row, server, image, 1)
    assert 0 < boot.dhcp < boot.script < boot.login < boot.rpc
    assert boots.faults([boot]) == []


@pytest.mark.matrix
@pytest.mark.lab
@pytest.mark.timeout(600)
def test_http_boot() -> None:
    """The firmware itself loads iPXE from our boot listener, as far as the iSCSI login."""
    image = guest_image.build(guest_image.default_cache(), progress=print)
    boot = boots.ours("uefi-http", "dnsmasq", image, 1, rpc=False)
    assert 0 < boot.dhcp < boot.script < boot.login
    assert boots.faults([boot]) == []


@pytest.mark.matrix
@pytest.mark.lab
@pytest.mark.timeout(600)
def test_reset_while_the_paper_s_servers_answer() -> None:
    image = guest_image.build(guest_image.default_cache(), progress=print)
    boot = boots.rebooted("bios-ipxe", "paper", image)
    assert 0 < boot.dhcp < boot.script < boot.login < boot.rpc
    assert boots.faults([boot]) == []


def test_bars() -> None:
    seen = [Times(1.0, 2.0, 2.5, 0.1, 0.2), Times(1.2, 4.0, 4.5, 0.3, 0.1), Times(9, 9, 9, 0, 0)]
    static = boots.Boot.of("bios-ipxe", "static", seen, 0.0)
    assert (static.dhcp, static.script, static.login) == (1.0, 2.0, 2.5)
    assert (static.offer_wait, static.script_wait) == (0.3, 0.2)
    slow = boots.Boot("bios-ipxe", "kea", 1.2, 2.36, 5.0, 20.0, 3.1, 13.2)
    assert boots.faults([static]) == []
    pressed = replace(static, server="kea", reset_on="boot", dhcp=1.6, script=2.6)
    assert boots.ratio(pressed, static) == pytest.approx(1.0)
    assert boots.faults([static, pressed]) == []
    paper = replace(pressed, server="paper", script=3.1)
    assert boots.faults([static, paper]) == [], "its reset is in it"
    late = replace(slow, reset_on="boot", offer_wait=0.0)
    assert boots.faults([late]) == ["bios-ipxe, kea, reset on boot: 13.2 s of secret wait (script)"]
    http = boots.Boot("uefi-http", "kea", 1.2, 2.0, 5.0, 0.0, 0.1, 13.2)
    assert boots.faults([http]) == ["uefi-http, kea: 13.2 s of secret wait (script)"]
    assert boots.faults([static, slow]) == [
        "bios-ipxe, kea: 3.1 s of secret wait (offer)",
        "bios-ipxe, kea: 13.2 s of secret wait (script)",
        "bios-ipxe, kea: 1.18 times the static one",
    ]


def test_what_makes_sense() -> None:
    rows = [name for name in boots.ROWS if boots.makes_sense(name, "paper", "boot")]
    assert rows == ["bios-plain", "bios-ipxe", "uefi-ipxe", "uefi-snponly"]
    assert not boots.makes_sense("bios-plain", "paper", "start")
    assert boots.makes_sense("uefi-http", "kea", "boot")
