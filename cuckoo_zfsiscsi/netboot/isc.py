"""DHCP by ISC dhcpd 4.4, the paper's server, for the configured hosts alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.netboot import OnEvent, render_template
from cuckoo_zfsiscsi.netboot.describe import BOOT_FILES, LEASE, describe
from cuckoo_zfsiscsi.netboot.server import DhcpServer, Program

INSTALL = "apt install isc-dhcp-server"
NOBODY = ("nobody", "nogroup")

# Lines of ISC dhcpd 4.4.3. What a client can choose (its name) stands behind the address.
STARTED = re.compile(r"Server starting service\.")
ACK = re.compile(r"DHCPACK on [0-9.]+ to ([0-9a-f:]{17})\b")


def render(config: Config) -> str:
    """Return dhcpd's configuration.

    Raises:
        NetbootError: a value could change its meaning.
    """
    return render_template("dhcpd.conf.j2", nets=describe(config), lease=LEASE, **BOOT_FILES)


def program(
    folder: Path, interfaces: Sequence[str], user: tuple[str, str] | None = NOBODY
) -> Program:
    """Return how it is run with files in a folder.

    Args:
        folder: of its files.
        interfaces: towards the hosts.
        user: and group as whom it goes on once it has its sockets; None: it stays root.
    """
    become = ("-user", user[0], "-group", user[1]) if user else ()
    file, leases = folder / "dhcpd.conf", folder / "dhcpd.leases"
    return Program(
        name="dhcpd",
        file=file,
        argv=("dhcpd", "-4", "-f", "-d", "--no-pid", *become,
              "-cf", str(file), "-lf", str(leases), *interfaces),
        test=("dhcpd", "-4", "-t", "-q", "-cf", str(file), "-lf", str(leases)),
        files=(leases,),
        install=INSTALL,
        started=STARTED,
        ack=ACK,
    )  # fmt: skip


def make(config: Config, on_event: OnEvent) -> DhcpServer:
    """Return the server, not open yet."""
    interfaces = [net.interface for net in describe(config)]
    return DhcpServer(
        config, on_event, program=lambda folder: program(folder, interfaces), render=render
    )
