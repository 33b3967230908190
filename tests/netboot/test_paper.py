"""What the paper's dhcpd is told. With hosts: tests/faults/test_paper_servers.py, bench.boots."""

from __future__ import annotations

import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot.drivers import make_netboot
from cuckoo_zfsiscsi.netboot.paper import render
from tests.netboot.conftest import IP1, IP2, MAC1, MAC2, MakeConfig
from tests.netboot.exchange import BIOS, IPXE_CLASS, IPXE_FEATURES, UEFI7, lease
from tests.netboot.network import DhcpClient, Network, inside
from tests.waiting import HANG


def test_a_host_may_have_its_own_boot_file(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(more="boot_file = snponly.efi\nreset_on = boot", dhcp="paper")
    text = render(config)
    assert text.count('filename "snponly.efi";') == 1
    file = tmp_path / "dhcpd.conf"
    file.write_text(text)
    subprocess.run(["dhcpd", "-t", "-cf", str(file)], check=True, capture_output=True)


def test_a_boot_file_that_tftp_does_not_serve(make_config: MakeConfig) -> None:
    config = make_config(more="boot_file = other.efi\nreset_on = boot", dhcp="paper")
    with pytest.raises(NetbootError, match=r"pc2.boot_file: .* have no other.efi"):
        render(config)


def test_boot_file_follows_firmware_and_stage(
    net: Network, client: DhcpClient, make_config: MakeConfig
) -> None:
    config = make_config("boot0", more="boot_file = snponly.efi\nreset_on = boot", dhcp="paper")
    server = make_netboot(config, lambda *_: None)
    with inside(net.server), closing(server):
        server.open(Deadline(HANG))
        for mac, options, ip, file in [
            (MAC1, BIOS, IP1, "undionly.kpxe"),
            (MAC1, UEFI7, IP1, "ipxe.efi"),
            (MAC1, BIOS | IPXE_CLASS | IPXE_FEATURES, IP1, "boot.ipxe"),
            (MAC2, UEFI7, IP2, "snponly.efi"),
            (MAC2, UEFI7 | IPXE_CLASS | IPXE_FEATURES, IP2, "boot.ipxe"),
        ]:
            answer = lease(client, mac, options)
            assert (answer.ip, answer.boot_file, answer.server) == (ip, file, "10.99.0.1")
            assert answer.options[175] == b"\xb0\x01\x01", "no-pxedhcp"
