"""DHCP, TFTP and router advertisements by dnsmasq, for the configured hosts alone."""

from __future__ import annotations

import logging
import re
import subprocess
import threading
import time
from pathlib import Path

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot import OnEvent, plain, render_template
from cuckoo_zfsiscsi.netboot.address import ensure_addresses

INSTALL = "apt install dnsmasq-base"
TEST_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0

# Lines of dnsmasq 2.90. What a client can choose stands where it can't pass for an address.
STARTED_LINE = re.compile(r"dnsmasq\[\d+\]: started, version ")
DHCP_LINE = re.compile(r"dnsmasq-dhcp(?:\[\d+\])?: (?:\d+ )?DHCPACK\([^)]*\) \S+ ([0-9a-f:]{17})\b")
TFTP_LINE = re.compile(r"dnsmasq-tftp(?:\[\d+\])?: sent .* to (\S+)$")
STARTED_LINE = re.compile(r"dnsmasq(?:\[\d+\])?: started\b")

log = logging.getLogger(__name__)


def render(config: Config) -> str:
    """Return dnsmasq's configuration.

    Raises:
        NetbootError: a value could change its meaning.
    """
    netboot = config.netboot
    # iPXE fills in the MAC of netX: the network card that it boots from.
    script_url = f"http://{netboot.address.ip}:{netboot.boot_port}/boot.ipxe?mac=${{netX/mac}}"
    return render_template(
        "dnsmasq.conf.j2",
        interface=plain("netboot.interface", netboot.interface, r"[A-Za-z0-9_.-]{1,15}"),
        network=netboot.address.network.network_address,
        netmask=netboot.address.netmask,
        ra_prefix=netboot.ra_prefix.network_address if netboot.ra_prefix else None,
        tftp_root=plain("netboot.tftp_root", netboot.tftp_root, r"/[A-Za-z0-9_./+-]*"),
        script_url=script_url,
        hosts=[
            {
                "mac": plain(f"{host.label}.mac", host.mac, r"[0-9a-f:]{17}"),
                "ip": host.ip,
                "boot_file": host.boot_file
                and plain(f"{host.label}.boot_file", host.boot_file, r"[A-Za-z0-9_./+-]+"),
            }
            for host in config.hosts
        ],
    )


class Dnsmasq:
    """Runs it.

    Args:
        config: of the service; the configuration file for dnsmasq goes to its run_dir.
        on_event: told (label, "dhcp" or "tftp", monotonic seconds), in a thread of ours.
    """

    def __init__(self, config: Config, on_event: OnEvent) -> None:
        self._config = config
        self._on_event = on_event
        self._by_mac = {host.mac: host.label for host in config.hosts}
        self._by_ip = {str(host.ip): host.label for host in config.hosts}
        self._file = config.zfsiscsi.run_dir / "dnsmasq.conf"
        self._serving = threading.Event()
        self._daemon = Daemon(
            ["dnsmasq", "--keep-in-foreground", "--log-facility=-", "--pid-file=",
             f"--conf-file={self._file}"],
            config.zfsiscsi.run_dir / "dnsmasq.pid",
            on_line=self._read,
            error=NetbootError,
            install=INSTALL,
            fix="who has its ports? ss -lunp 'sport = :67 or sport = :69'",
        )  # fmt: skip

    def open(self, deadline: Deadline) -> None:
        """Start it, in place of one that an earlier life of ours left.

        Raises:
            NetbootError: it is missing, the interface is not as configured, or it can't serve.
            DeadlineExceededError, CancelledError: as it says.
        """
        netboot = self._config.netboot
        ensure_addresses(netboot)
        if not netboot.tftp_root.is_dir():
            raise NetbootError(
                f"netboot.tftp_root: there is no directory {netboot.tftp_root}",
                fix="apt install ipxe",
            )
        self._file.write_text(render(self._config))
        _test(self._file, deadline)
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
        log.info("%s", line)
        if STARTED_LINE.match(line):
            self._serving.set()
        elif acked := DHCP_LINE.match(line):
            self._tell(self._by_mac.get(acked[1]), "dhcp", at)
        elif sent := TFTP_LINE.match(line):
            self._tell(self._by_ip.get(sent[1]), "tftp", at)

    def _tell(self, label: str | None, kind: str, at: float) -> None:
        if label is not None:
            self._on_event(label, kind, at)


def _test(file: Path, deadline: Deadline) -> None:
    """Let dnsmasq check a configuration.

    Raises:
        NetbootError: it is missing, or does not like it.
    """
    try:
        result = subprocess.run(
            ["dnsmasq", "--test", f"--conf-file={file}"],
            check=False,
            capture_output=True,
            text=True,
            timeout=deadline.within(TEST_TIMEOUT).remaining,
        )
    except FileNotFoundError:
        raise NetbootError("dnsmasq is not installed", fix=INSTALL) from None
    except subprocess.TimeoutExpired:
        deadline.check("dnsmasq --test")
        raise NetbootError("dnsmasq --test does not end", fix=f"dnsmasq --test -C {file}") from None
    if result.returncode:
        raise NetbootError(
            f"dnsmasq refuses its configuration {file}: {result.stderr.strip()}",
            fix=f"dnsmasq --test -C {file}",
        )
