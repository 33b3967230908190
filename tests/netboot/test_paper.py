"""What the paper's dhcpd is told. With hosts: tests/faults/test_paper_servers.py, bench.boots."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot.paper import render
from tests.netboot.conftest import MakeConfig


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
