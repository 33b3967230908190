"""All that lies beyond the hosts' network: CAPE's server, which is their gateway, and its lines."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from cuckoo_zfsiscsi.lab import guest_image
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.capture import LOGINS
from cuckoo_zfsiscsi.lab.network import Namespace, Network
from cuckoo_zfsiscsi.lab.real_cape import default_python
from cuckoo_zfsiscsi.lab.routes import place as places
from cuckoo_zfsiscsi.lab.routes.place import Place, link
from cuckoo_zfsiscsi.lab.routes.recording import Recording
from cuckoo_zfsiscsi.lab.routes.rooter import Iptables, RealRooter, Rooter
from cuckoo_zfsiscsi.lab.routes.route import Route, Routing
from cuckoo_zfsiscsi.lab.routes.traffic import Seen, Server, Sought, look
from cuckoo_zfsiscsi.lab.wire import BULK

GATEWAY = IPv4Interface("10.99.0.2/24")
"""CAPE's server in the hosts' network. The disks' portal is another machine there."""
GATEWAY_MAC, LINE_MAC = "52:54:00:99:03:01", "52:54:00:99:03:02"
"""Of CAPE's server: towards the hosts, and towards the internet."""
PORT = "cape0"
"""Of the bridge, that CAPE's server is plugged into."""
SIBLING_PORT = "sibling0"
ROUTING = Routing(
    hosts=net.BRIDGE,
    internet="internet0",
    rt_table="main",
    inetsim="inetsim0",
    inetsim_server=str(places.INETSIM.ip),
)
"""CAPE's routing.conf. rt_table is CAPE's default: that of the system."""
FORBIDDEN = {"a private address": places.PRIVATE, "a sibling": places.SIBLING.ip}
"""No route may lead to them."""
KEEP = 5
"""Captures of earlier labs that stay, the newest ones."""
NAMES = ("cape", "internet", "inetsim", "sibling")


@dataclass(frozen=True)
class Moment:
    """How far the captures were."""

    port: int = 0
    line: int = 0


BEGIN = Moment()


def namespaces(lab: str) -> list[Namespace]:
    """Return those of a lab, whether they are there or not.

    Args:
        lab: name of its network.
    """
    return [Namespace(f"{lab}-{name}") for name in NAMES]


class Outside:
    """CAPE's server with its rooter, the internet, INetSim, and a sibling of the host.

    Args:
        network: of the lab; it is up before this.
        at: directory of the lab.
        route: of every run.
    """

    def __init__(self, network: Network, at: Path, route: Route) -> None:
        self.route = route
        self._network = network
        self._host = str(net.host_address(1))
        self._sought = Sought(
            GATEWAY_MAC,
            LINE_MAC,
            self._host,
            _server("C2", places.C2),
            str(places.INETSIM.ip),
            [_server(*one) for one in FORBIDDEN.items()],
        )
        self.cape, *others = namespaces(network.name)
        self._internet, self._inetsim, self._sibling = (
            Place(other.name, at / name) for other, name in zip(others, NAMES[1:], strict=True)
        )
        root = Path(os.environ.get("CAPE_ROOT", ""))
        python = Path(os.environ.get("CAPE_PYTHON") or default_python(root))
        self._rooter: Rooter = Iptables(self.cape)
        if "CAPE_ROOT" in os.environ:
            self._rooter = RealRooter(root, python, at, self.cape)
        everything = f"not ({BULK}) or ether host {GATEWAY_MAC}"
        self._port = Recording(network, net.tap(1), at / "port.pcap", everything)
        self._line = Recording(self.cape, ROUTING.internet, at / "internet.pcap", "ip or ip6")

    @property
    def keys(self) -> str:
        """Lines of [netboot] in zfsiscsi.conf: what the hosts' systems are told of the way out."""
        lines = (f"gateway = {GATEWAY.ip}", f"dns = {places.DNS}", f"allow = {places.INETSIM.ip}")
        return "\n".join(lines)

    def up(self) -> None:
        """Make it.

        Raises:
            LabError, DeadlineExceededError: a part does not work.
        """
        self.cape.up()
        self._make_gateway()
        self._make_internet()
        for server in (self._sought.c2, *self._sought.forbidden):
            at_sibling = server.address == str(places.SIBLING.ip)
            (self._sibling if at_sibling else self._internet).serve_page(server)
        if self.route == "inetsim":
            self._inetsim.up(self.cape, ROUTING.inetsim, places.INETSIM)
            self.cape.ip(f"addr add {places.INETSIM_LINE} dev {ROUTING.inetsim}")
            gateway = places.INETSIM_LINE.ip
            self._inetsim.namespace.ip(f"route add default via {gateway}")
            self._inetsim.serve_simulation(places.INETSIM.ip)
        self._rooter.start()
        for call in ROUTING.at_start():
            self._rooter.call(*call)
        self._line.start()
        self._port.start()

    def _make_gateway(self) -> None:
        link(self._network, PORT, self.cape, ROUTING.hosts)
        self._network.ip(f"link set {PORT} master {net.BRIDGE}")
        self.cape.ip(
            f"link set {ROUTING.hosts} address {GATEWAY_MAC}",
            f"addr add {GATEWAY} dev {ROUTING.hosts}",
        )
        # CAPE's rooter means to, but gives sysctl a wrong option
        self.cape.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])
        self._sibling.up(self._network, SIBLING_PORT, places.SIBLING)
        self._network.ip(f"link set {SIBLING_PORT} master {net.BRIDGE}")
        # As docs/switch.rst wants it: no host reaches another one
        ports = (SIBLING_PORT, *(net.tap(one + 1) for one in range(self._network.hosts)))
        self._network.ip(*(f"link set {port} type bridge_slave isolated on" for port in ports))

    def _make_internet(self) -> None:
        own = [IPv4Interface((one, 24)) for one in (places.BORDER, places.C2, places.DNS)]
        self._internet.up(self.cape, ROUTING.internet, *own, IPv4Interface((places.PRIVATE, 32)))
        self.cape.ip(
            f"link set {ROUTING.internet} address {LINE_MAC}",
            f"addr add {places.INTERNET} dev {ROUTING.internet}",
            f"route add default via {places.BORDER}",
        )
        self._internet.serve_names(places.DNS, {places.C2_NAME: places.C2})

    def guard(self, zfsiscsi: Sequence[str]) -> None:
        """Load our firewall on CAPE's server, as docs/routes.rst wants it.

        Args:
            zfsiscsi: argv of our command line, with CAPE's copy of the configuration.

        Raises:
            LabError: it can't be loaded.
        """
        self.cape.run([*zfsiscsi, "netboot", "firewall", "--apply"])

    def enable(self) -> None:
        """Enable the route, as CAPE does when the host has started.

        Raises:
            LabError: the rooter can't.
        """
        for call in ROUTING.enable(self.route, self._host):
            self._rooter.call(*call)

    def disable(self) -> None:
        """Disable the route, as CAPE does before it stops the host.

        Raises:
            LabError: the rooter can't.
        """
        for call in ROUTING.disable(self.route, self._host):
            self._rooter.call(*call)

    def now(self) -> Moment:
        """Return this moment, for seen(). The host is on.

        Raises:
            LabError, OSError, DeadlineExceededError: a capture can't be read.
        """
        return Moment(len(self._port.read()), len(self._line.read()))

    def seen(self, since: Moment = BEGIN) -> Seen:
        """Return what has been seen. The host is on.

        Args:
            since: when; else since the beginning.

        Raises:
            LabError, OSError, DeadlineExceededError: a capture can't be read.
        """
        port, line = self._port.read()[since.port :], self._line.read()[since.line :]
        return look(self._sought, port, line)

    def keep(self) -> Path | None:
        """Keep the capture of the host's port beyond the lab; return where. None: there is none.

        Only root can read it: a boot script that went over the wire has a secret.

        Raises:
            OSError: there is no room, for instance.
        """
        if not self._port.file.exists():
            return None
        folder = guest_image.default_cache() / "captures"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        for old in sorted(folder.iterdir())[: 1 - KEEP]:  # their names begin with the time
            old.unlink()
        number, name = tempfile.mkstemp(".pcap", time.strftime("%Y%m%d-%H%M%S-"), folder)
        os.close(number)
        shutil.copyfile(self._port.file, name)
        return Path(name)

    def down(self) -> None:
        """End and remove it. May be called again, also when only half of it was made."""
        for recording in (self._port, self._line):
            recording.stop()
        self._rooter.stop()
        for place in (self._internet, self._inetsim, self._sibling):
            place.down()
        self.cape.down()


def _server(what: str, address: IPv4Address) -> Server:
    return Server(what, str(address), secrets.token_hex(16).encode())


def how_to_verify(capture: Path) -> list[str]:
    """Return two commands that show in a capture of the host's port what it was about.

    Args:
        capture: the file.
    """
    read = f"tcpdump -nr {shlex.quote(str(capture))}"
    return [
        f"{read} 'ether dst {GATEWAY_MAC} and {LOGINS}'",
        f"{read} 'host {places.C2}'",
    ]
