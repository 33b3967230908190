"""DHCP servers of a site's own, with our lines in them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from tests.netboot.network import Network, inside
from tests.waiting import HANG

SITES = {
    "dnsmasq": (
        "port=0\ninterface=boot0\nbind-interfaces\nno-ping\nleasefile-ro\n"
        "dhcp-range=10.99.0.100,10.99.0.110\ndhcp-option=option:router,10.99.0.254\n"
        "dhcp-option=option:dns-server,10.99.0.254\n{lines}",
        ["dnsmasq", "-k", "--log-facility=-", "--pid-file=", "--user=root", "-C", "{file}"],
        "started",
    ),
    "isc": (
        "ping-check false;\nauthoritative;\n"
        "subnet 10.99.0.0 netmask 255.255.255.0 {{ range 10.99.0.100 10.99.0.110; }}\n{lines}",
        ["dhcpd", "-4", "-f", "-d", "--no-pid", "-cf", "{file}", "-lf", "{leases}", "boot0"],
        "Server starting service.",
    ),
    "kea": (
        '{{"Dhcp4": {{"interfaces-config": {{"interfaces": ["boot0"]}},\n'
        '"lease-database": {{"type": "memfile", "persist": false}},\n"reservations-global": true,\n'
        '"subnet4": [{{"id": 1, "subnet": "10.99.0.0/24",\n'
        '"pools": [{{"pool": "10.99.0.100 - 10.99.0.110"}}]}}],\n{lines}}}}}\n',
        ["env", "KEA_PIDFILE_DIR={folder}", "KEA_LOCKFILE_DIR=none", "kea-dhcp4", "-c", "{file}"],
        "DHCP4_STARTED",
    ),
}


@contextmanager
def site_server(net: Network, folder: Path, kind: str, lines: str) -> Iterator[None]:
    """Run a site's own server with our lines in it."""
    whole, argv, started = SITES[kind]
    file, leases = folder / "site.conf", folder / "leases"
    file.write_text(whole.format(lines=lines))
    leases.touch()
    ready = threading.Event()
    words = [word.format(file=file, leases=leases, folder=folder) for word in argv]
    daemon = Daemon(
        words, folder / "site.pid", on_line=lambda line: ready.set() if started in line else None
    )
    with inside(net.server):
        daemon.start(Deadline(HANG), ready.is_set)
        try:
            yield
        finally:
            daemon.stop(Deadline(HANG))
