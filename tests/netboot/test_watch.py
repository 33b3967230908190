from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.netboot.offences import Offences
from cuckoo_zfsiscsi.netboot.watch import Watch
from tests.netboot.conftest import MAC1, MAC2, MakeConfig
from tests.waiting import wait


def test_who_asks_for_what_is_no_boot_file(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "undionly.kpxe").touch()
    hosts = [host.model_copy(update={"ip": "127.0.0.1"}) for host in make_config().hosts[:1]]
    watch = Watch("lo", lambda: tmp_path, Offences(hosts))
    watch.open()
    names = ["undionly.kpxe", "/undionly.kpxe", f"{tmp_path}/undionly.kpxe", "autoexec.ipxe"]
    wrong = ["../../etc/shadow", "pc2.ipxe", "a\nforged line", os.fsdecode(b"x" * 400)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer, caplog.at_level(logging.WARNING):
        for name in [*names, *wrong]:
            peer.sendto(b"\0\1" + name.encode() + b"\0octet\0", ("127.0.0.1", 69))
        wait(
            lambda: len(caplog.messages) >= len(wrong),
            what="not all of them are told",
            seen=lambda: caplog.messages,
        )
    watch.close()
    watch.close()
    assert [line.partition(" asks ")[0] for line in caplog.messages] == ["pc1 (127.0.0.1)"] * 4
    assert "'../../etc/shadow'" in caplog.messages[0]
    assert all("\n" not in line and len(line) < 160 for line in caplog.messages)


def test_where_it_cant_be_seen(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Watch("no-such-card", lambda: tmp_path, Offences(make_config().hosts)).open()
    assert "is not seen" in caplog.text


def test_who_asks_dhcp_in_another_network(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch("lo", lambda: tmp_path, Offences(make_config().hosts), {MAC2: "vlan20"})
    watch.open()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer, caplog.at_level(logging.WARNING):
        for mac in (MAC1, MAC2):
            card = bytes.fromhex(mac.replace(":", ""))
            request = b"\1\1\6".ljust(28, b"\0") + card.ljust(212, b"\0")
            peer.sendto(request, ("127.0.0.1", 67))
        wait(lambda: "pc2" in caplog.text, what="pc2 is not told", seen=lambda: caplog.messages)
    watch.close()
    told = f"pc2 ({MAC2}) asks for an address on lo, but its network is that of vlan20"
    # What other tests send at the same time is seen, too
    assert [line for line in caplog.messages if "pc" in line] == [told]
