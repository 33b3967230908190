from __future__ import annotations

import logging

import pytest

from cuckoo_zfsiscsi.netboot import lines
from cuckoo_zfsiscsi.netboot.lines import ServerLog
from tests.clocks import VirtualClock
from tests.netboot.conftest import IP1, IP2, MAC1, MAC2, MakeConfig

log = logging.getLogger("cuckoo_zfsiscsi.test")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def server(
    make_config: MakeConfig, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> ServerLog:
    caplog.set_level("INFO", log.name)
    return ServerLog(log, "kea: ", make_config().hosts, clock)


def test_a_guest_hides_no_other(
    server: ServerLog, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3000):
        server.write(f"dnsmasq-dhcp: DHCPDISCOVER(boot0) {MAC1} ")
    server.write(f"dnsmasq-dhcp: DHCPDISCOVER(boot0) {MAC2} ")
    server.write("dnsmasq-dhcp: DHCPDISCOVER(boot0) 02:00:00:00:00:01 no address available")
    server.write("dnsmasq: started, version 2.90 DNS disabled")
    assert len(caplog.messages) == lines.SERVER_LINES + 3
    assert caplog.messages[-1] == "kea: dnsmasq: started, version 2.90 DNS disabled"
    caplog.clear()
    clock.sleep(lines.PERIOD + 0.1)
    server.write(f"DHCPACK(boot0) {IP1} {MAC1}")
    assert caplog.messages == [
        f"kea: {3000 - lines.SERVER_LINES} more lines about pc1",
        f"kea: DHCPACK(boot0) {IP1} {MAC1}",
    ]


@pytest.mark.parametrize(
    ("line", "who"),
    [
        (f"dnsmasq-dhcp[7]: DHCPACK(boot0) {IP1} {MAC1} {MAC2}", "pc1"),
        (f"dnsmasq-dhcp: DHCPDISCOVER(boot0) {IP2} {MAC1} ", "pc1"),
        (f"dnsmasq-tftp: file /srv/{IP2} not found for {IP1}", "pc1"),
        (f"dnsmasq-tftp: sent /usr/lib/ipxe/undionly.kpxe to {IP2}", "pc2"),
        ("dnsmasq-dhcp: DHCPDISCOVER(boot0) 02:00:00:00:00:01 ", lines.STRANGER),
        ("dnsmasq-tftp: TFTP root is /usr/lib/ipxe", lines.ITSELF),
    ],
)
def test_whom_a_line_is_about(server: ServerLog, line: str, who: str) -> None:
    """A name that a guest has chosen does not count."""
    assert server._about(line) == who
