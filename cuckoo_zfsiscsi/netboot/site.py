"""What a site's own DHCP server must be told of our hosts, for each kind of server."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.environment import search_path
from cuckoo_zfsiscsi.netboot import dnsmasq, isc, kea, paper, render_template
from cuckoo_zfsiscsi.netboot.checker import check
from cuckoo_zfsiscsi.netboot.describe import BOOT_FILES, BootNetwork, describe

Networks = Sequence[BootNetwork]


@dataclass(frozen=True)
class Kind:
    """One kind of DHCP server."""

    service: Callable[[Config], str] | None
    """The configuration that the service runs it with; None: the service can't run it."""
    lines: Callable[[Networks], str]
    """What a site's own needs in addition."""
    whole: Callable[[Networks, str], str] = lambda _nets, lines: lines
    """The smallest configuration that these lines make sense in, for the checker."""
    test: tuple[str, ...] = ()
    """The server's own checker; the file goes behind it. None where there is none."""
    install: str = ""


def _template(name: str) -> Callable[[Networks], str]:
    return lambda nets: render_template(name, nets=nets, **BOOT_FILES)


def _in_subnet(nets: Networks, lines: str) -> str:
    networks = [net.network for net in nets]
    whole = "".join(f"subnet {n.network_address} netmask {n.netmask} {{}}\n" for n in networks)
    return whole + lines


def _kea_lines(nets: Networks) -> str:
    """Write the members of Dhcp4, without the braces around them."""
    inner = json.dumps(kea.fragment(nets), indent=2).split("\n")[1:-1]
    return render_template("kea-site.j2", nets=nets) + "\n".join(inner) + "\n"


def _in_dhcp4(nets: Networks, lines: str) -> str:
    subnets = json.dumps([{"id": n, "subnet": str(net.network)} for n, net in enumerate(nets, 1)])
    return f'{{"Dhcp4": {{"subnet4": {subnets},\n{lines}}}}}\n'


KINDS: dict[str, Kind] = {
    "dnsmasq": Kind(
        dnsmasq.render, _template("dnsmasq-site.conf.j2"),
        test=("dnsmasq", "--test", "-C"), install=dnsmasq.INSTALL,
    ),
    "isc": Kind(
        isc.render, _template("dhcpd-site.conf.j2"), _in_subnet,
        test=("dhcpd", "-4", "-t", "-q", "-lf", "/dev/null", "-cf"), install=isc.INSTALL,
    ),
    "kea": Kind(
        kea.render, _kea_lines, _in_dhcp4,
        test=("kea-dhcp4", "-t"), install=kea.INSTALL,
    ),
    "windows": Kind(None, _template("windows.ps1.j2")),
}  # fmt: skip


@dataclass(frozen=True)
class Rendered:
    """Text, and what the server's own checker thinks of it."""

    server: str
    text: str
    unchecked: str
    """Why it was not checked; empty: it was, and is right."""


def render_service(config: Config, deadline: Deadline) -> Rendered:
    """Return what the service runs its own DHCP server with, checked.

    Raises:
        NetbootError: a value could change its meaning, or the checker refuses it.
        KeyError: dhcp = external, the service runs none.
    """
    server = config.netboot.dhcp
    if server == "paper":
        kind, text = KINDS["isc"], paper.render(config)
    else:
        kind = KINDS[server]
        assert kind.service is not None  # noqa: S101 - every value of `dhcp` but external has one
        text = kind.service(config)
    return Rendered(server, text, check_text(kind, text, config, deadline))


def render_site(config: Config, server: str, deadline: Deadline) -> Rendered:
    """Return the lines for a site's own DHCP server, checked inside the smallest whole.

    Raises:
        NetbootError: a value could change their meaning, or the checker refuses them.
        KeyError: no such server.
    """
    kind, nets = KINDS[server], describe(config)
    lines = kind.lines(nets)
    return Rendered(server, lines, check_text(kind, kind.whole(nets, lines), config, deadline))


def check_text(kind: Kind, text: str, config: Config, deadline: Deadline) -> str:
    """Let the server's own checker judge; return why it can't be asked here, or nothing.

    Raises:
        NetbootError: it refuses the text.
    """
    # Where AppArmor lets the servers in, see docs/netboot.rst, if we may write there
    run_dir = config.zfsiscsi.run_dir
    at = run_dir if os.access(run_dir, os.W_OK) else None
    if not kind.test:
        return "this server has no checker"
    if not shutil.which(kind.test[0], path=search_path()):
        return f"{kind.test[0]} is not installed here; {kind.install}"
    with tempfile.TemporaryDirectory(prefix="checked-", dir=at) as folder:
        file = Path(folder) / "checked.conf"
        file.write_text(text)
        check([*kind.test, str(file)], deadline, install=kind.install)
    return ""
