"""A host in the lab's network without QEMU: a namespace at its port, in which the sample runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cuckoo_zfsiscsi.lab import malware
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.network import Namespace, Network
from cuckoo_zfsiscsi.lab.routes import place as places
from cuckoo_zfsiscsi.lab.routes.outside import FORBIDDEN, GATEWAY
from cuckoo_zfsiscsi.lab.routes.place import link
from tests.waiting import HANG


class Guest(Namespace):
    """Told of the way out as by DHCP.

    Args:
        network: of the lab, without a port for the host.
        etc: folder for its /etc/resolv.conf.
        isolated: its port is kept from others, as the lab does with its own.
    """

    def __init__(self, network: Network, etc: Path, *, isolated: bool) -> None:
        super().__init__(f"{network.name}-guest")
        self._network = network
        self._isolated = "on" if isolated else "off"
        self._resolv = etc / "resolv.conf"

    def up(self) -> None:
        super().up()
        port = net.tap(1)
        link(self._network, port, self, "eth0")
        self._network.ip(
            f"link set {port} master {net.BRIDGE}",
            f"link set {port} type bridge_slave isolated {self._isolated}",
        )
        self.ip(
            f"link set eth0 address {net.mac(1)}",
            f"addr add {net.host_address(1)}/24 dev eth0",
            f"route add default via {GATEWAY.ip}",
        )
        self._resolv.write_text(f"nameserver {places.DNS}\n")

    def call_home(self, patience: float) -> None:
        """Run the sample, as the guest's agent does."""
        others = [str(one) for one in FORBIDDEN.values()]
        sample = [sys.executable, "-I", "-S", "-c", malware.SAMPLE, str(patience)]
        bind = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        argv = ["unshare", "--mount", "sh", "-c", bind, str(self._resolv)]
        argv = [*self.prefix, *argv, *sample, places.C2_NAME, *others]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=HANG)
        assert done.stdout == "done\n", done.stderr
