"""DHCP, TFTP and router advertisements by dnsmasq, for the configured hosts alone."""

from __future__ import annotations

import logging
import re
import threading
import time

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot import OnEvent, render_template
from cuckoo_zfsiscsi.netboot.address import ensure_addresses
from cuckoo_zfsiscsi.netboot.checker import check
from cuckoo_zfsiscsi.netboot.describe import BOOT_FILES, describe
from cuckoo_zfsiscsi.netboot.lines import ServerLog

INSTALL = "apt install dnsmasq-base"
CLOSE_TIMEOUT = 5.0
TRANSFERS, TRANSFERS_EACH = 1000, 100
"""Transfers by TFTP at a time: at least, and for each host. Its own default of 50 is used up by one
guest that asks and says no more: such a transfer lasts half a minute. The firewall keeps a single
host below a third of its share."""

# Lines of dnsmasq 2.90. What a client can choose stands where it can't pass for an address.
DHCP_LINE = re.compile(r"dnsmasq-dhcp(?:\[\d+\])?: (?:\d+ )?DHCPACK\([^)]*\) \S+ ([0-9a-f:]{17})\b")
TFTP_LINE = re.compile(r"dnsmasq-tftp(?:\[\d+\])?: sent .* to (\S+)$")
STARTED_LINE = re.compile(r"dnsmasq(?:\[\d+\])?: started\b")

log = logging.getLogger(__name__)


def render(config: Config, *, dhcp: bool = True, tftp: bool = True) -> str:
    """Return dnsmasq's configuration.

    Args:
        config: of the service.
        dhcp: it gives addresses.
        tftp: it serves boot files. Router advertisements it always sends.

    Raises:
        NetbootError: a value could change its meaning.
    """
    serves = " and ".join(["DHCP"] * dhcp + ["TFTP"] * tftp) or "router advertisements"
    return render_template(
        "dnsmasq.conf.j2",
        nets=describe(config),
        serves=serves,
        dhcp=dhcp,
        tftp=tftp,
        transfers=max(TRANSFERS, TRANSFERS_EACH * len(config.hosts)),
        **BOOT_FILES,
    )


class Dnsmasq:
    """Runs it.

    Args:
        config: of the service; the configuration file for dnsmasq goes to its run_dir.
        on_event: told (label, "dhcp" or "tftp", monotonic seconds), in a thread of ours.
        dhcp: it gives addresses.
        tftp: it serves boot files. Router advertisements it always sends.
    """

    def __init__(
        self, config: Config, on_event: OnEvent, *, dhcp: bool = True, tftp: bool = True
    ) -> None:
        self._config = config
        self._dhcp, self._tftp = dhcp, tftp
        self._on_event = on_event
        self._by_mac = {host.mac: host.label for host in config.hosts}
        self._by_ip = {str(host.ip): host.label for host in config.hosts}
        self._log = ServerLog(log, "", config.hosts)
        self._file = config.zfsiscsi.run_dir / "dnsmasq.conf"
        self._serving = threading.Event()
        self._daemon = Daemon(
            ["dnsmasq", "--keep-in-foreground", "--log-facility=-", "--pid-file=",
             f"--conf-file={self._file}"],
            config.zfsiscsi.run_dir / "dnsmasq.pid",
            on_line=self._read,
            error=NetbootError,
            install=INSTALL,
            fix="who has its ports? "
            f"ss -lunp '{'sport = :67 or ' if dhcp else ''}sport = :69'",
        )  # fmt: skip

    def open(self, deadline: Deadline) -> None:
        """Start it, in place of one that an earlier life of ours left.

        Raises:
            NetbootError: it is missing, the interface is not as configured, or it can't serve.
            DeadlineExceededError, CancelledError: as it says.
        """
        for network in self._config.networks:
            ensure_addresses(network)
        root = self._config.netboot.tftp_root
        if not root.is_dir():
            raise NetbootError(
                f"netboot.tftp_root: there is no directory {root}",
                fix="apt install ipxe",
            )
        self._file.write_text(render(self._config, dhcp=self._dhcp, tftp=self._tftp))
        check(["dnsmasq", "--test", f"--conf-file={self._file}"], deadline, install=INSTALL)
        self._serving.clear()
        self._daemon.start(deadline, ready=self._serving.is_set)

    def alive(self) -> bool:
        """Whether it runs."""
        return self._daemon.alive()

    def close(self) -> None:
        """End it. May be called again."""
        self._daemon.stop(Deadline(CLOSE_TIMEOUT))

    def _read(self, line: str) -> None:
        at = time.monotonic()
        self._log.write(line)
        if STARTED_LINE.match(line):
            self._serving.set()
        elif acked := DHCP_LINE.match(line):
            self._tell(self._by_mac.get(acked[1]), "dhcp", at)
        elif sent := TFTP_LINE.match(line):
            self._tell(self._by_ip.get(sent[1]), "tftp", at)

    def _tell(self, label: str | None, kind: str, at: float) -> None:
        if label is not None:
            self._on_event(label, kind, at)
