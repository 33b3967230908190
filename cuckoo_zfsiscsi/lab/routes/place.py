"""Places that a sample may call, each a network namespace with servers in it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.lab.command import HANG
from cuckoo_zfsiscsi.lab.logged import Logged
from cuckoo_zfsiscsi.lab.network import Namespace
from cuckoo_zfsiscsi.lab.routes.traffic import Server
from cuckoo_zfsiscsi.lab.watch import inside

INTERFACE = "eth0"
"""Of every place."""
C2_NAME = "c2.example"
C2, DNS, BORDER = (IPv4Address(f"203.0.113.{last}") for last in (10, 53, 254))
"""Of the internet (TEST-NET-3, RFC 5737): the C2 server, the name server, the next router."""
INTERNET = IPv4Interface("203.0.113.1/24")
"""CAPE's server on the dirty line."""
PRIVATE = IPv4Address("10.1.2.3")
"""A machine of the lab's owner that his router leads to."""
SIBLING = IPv4Interface("10.99.0.250/24")
"""Another host of the network."""
INETSIM, INETSIM_LINE = IPv4Interface("10.96.0.2/24"), IPv4Interface("10.96.0.1/24")
"""INetSim, and CAPE's server on the line to it."""
INETSIM_DATA = "/var/lib/inetsim"
"""Debian's: the pages that it answers with."""
GRACE = 10.0
"""Seconds within which a server must be gone."""
INETSIM_CONF = """\
start_service dns
start_service http
service_bind_address {address}
dns_default_ip {address}
http_fakemode yes
http_fakefile html sample.html text/html
http_default_fakefile sample.html text/html
"""


class Place:
    """A namespace with servers in it.

    Args:
        name: of the namespace.
        at: directory for the servers' files, made here.
    """

    def __init__(self, name: str, at: Path) -> None:
        self.namespace = Namespace(name)
        self.at = at
        self._servers: list[Daemon] = []

    def up(self, line: Namespace, interface: str, *addresses: IPv4Interface) -> None:
        """Make it, linked to another namespace by a wire.

        Args:
            line: the other namespace.
            interface: that the wire ends at there.
            addresses: of the place.

        Raises:
            LabError: it can't be made.
        """
        self.at.mkdir(parents=True, exist_ok=True)
        self.namespace.up()
        link(line, interface, self.namespace, INTERFACE)
        self.namespace.ip(*(f"addr add {one} dev {INTERFACE}" for one in addresses))

    def serve(self, argv: Sequence[str], address: IPv4Address, port: int, package: str) -> None:
        """Run a server in it.

        Args:
            argv: program and arguments; it stays in the foreground.
            address: at which it accepts when it is up.
            port: TCP port of it.
            package: Debian's, that has the program.

        Raises:
            LabError, DeadlineExceededError: it does not accept.
        """
        name = f"{package}-{address}"
        server = Logged(
            [*self.namespace.prefix, *argv],
            self.at / f"{name}.log",
            self.at / f"{name}.pid",
            name=name,
            install=f"apt-get install {package}",
        )
        self._servers.append(server)
        server.start(Deadline(HANG), lambda: self._accepts(address, port))

    def serve_page(self, page: Server) -> None:
        """Run an HTTP server.

        Args:
            page: where, and what it says.

        Raises:
            LabError, DeadlineExceededError: as serve().
        """
        folder = self.at / page.address
        folder.mkdir()
        (folder / "index.html").write_bytes(page.token)
        argv = ["busybox", "httpd", "-f", "-p", f"{page.address}:80", "-h", str(folder)]
        self.serve(argv, IPv4Address(page.address), 80, "busybox")

    def serve_names(self, address: IPv4Address, names: Mapping[str, IPv4Address]) -> None:
        """Run a name server.

        Args:
            address: at which.
            names: that it knows, each with its address.

        Raises:
            LabError, DeadlineExceededError: as serve().
        """
        argv = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file="]
        argv += ["--no-resolv", "--no-hosts", "--bind-interfaces", f"--listen-address={address}"]
        argv += ["--user=root", "--log-facility=-", "--log-queries"]
        argv += [f"--address=/{name}/{where}" for name, where in names.items()]
        self.serve(argv, address, 53, "dnsmasq-base")

    def serve_simulation(self, address: IPv4Address) -> None:
        """Run INetSim, its DNS and HTTP.

        Args:
            address: at which; its names lead there, too.

        Raises:
            LabError, DeadlineExceededError: as serve().
        """
        conf = self.at / "inetsim.conf"
        conf.write_text(INETSIM_CONF.format(address=address))
        # Its shared memory goes by a fixed key, whose other users and left-overs it would meet
        argv = ["unshare", "--ipc", "inetsim", f"--config={conf}", "--session=lab"]
        argv += [f"--pidfile={self.at}/main.pid"]
        argv += [f"--log-dir={self.at}", f"--report-dir={self.at}", "--user=root"]
        self.serve([*argv, f"--data-dir={INETSIM_DATA}"], address, 80, "inetsim")

    def down(self) -> None:
        """End and remove it. May be called again, and of one that was never made."""
        for server in self._servers:
            server.stop(Deadline(GRACE))
        self.namespace.down()

    def _accepts(self, address: IPv4Address, port: int) -> bool:
        def connect() -> bool:
            with contextlib.suppress(OSError), socket.create_connection((str(address), port), 1.0):
                return True
            return False

        return inside(self.namespace, connect)


def link(one: Namespace, first: str, other: Namespace, second: str) -> None:
    """Lay a wire between two namespaces; both its ends are up.

    Args:
        one: a namespace.
        first: interface that it gets.
        other: the other one.
        second: interface that that gets.

    Raises:
        LabError: it can't be laid.
    """
    one.ip(f"link add {first} type veth peer name {second} netns {other.name}")
    for namespace, name in ((one, first), (other, second)):
        # Without an IPv6 address of its own: nothing is said on it that nobody asked for
        namespace.ip(f"link set {name} addrgenmode none", f"link set {name} up")
