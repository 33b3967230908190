"""DHCP by ISC Kea (https://kea.readthedocs.io), for the configured hosts alone."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.config.default_route import DefaultRoute
from cuckoo_zfsiscsi.netboot import OnEvent
from cuckoo_zfsiscsi.netboot.describe import BOOT_FILES, LEASE, BootNetwork, describe
from cuckoo_zfsiscsi.netboot.server import DhcpServer, Program

INSTALL = "apt install kea-dhcp4-server"
LEASES = "kea-leases4.csv"
HOST = "zfsiscsi"
"""Class of every host of ours."""

# Lines of Kea 2.2. What a client can choose (cid) stands behind the address.
STARTED = re.compile(r".*\bDHCP4_STARTED\b")
BROKEN = re.compile(r".*\bDHCPSRV_OPEN_SOCKET_FAIL\b")
ACK = re.compile(r".*\bDHCP4_LEASE_ALLOC \[hwtype=1 ([0-9a-f:]{17})\]")

Json = dict[str, Any]


def fragment(nets: Sequence[BootNetwork]) -> Json:
    """Return what the object Dhcp4 of any Kea needs for our hosts."""
    return {
        # no-pxedhcp: else iPXE waits 3 s for a proxy DHCP server.
        "option-def": [
            {"space": "dhcp4", "name": "ipxe", "code": 175, "type": "empty", "encapsulate": "ipxe"},
            {"space": "ipxe", "name": "no-pxedhcp", "code": 176, "type": "uint8"},
        ],
        "client-classes": _classes(nets),
        "reservations": [
            {
                "hw-address": host.mac,
                "ip-address": str(host.ip),
                "client-classes": [
                    HOST,
                    _hosts_class(net),
                    _files_class(net, host.boot_file),
                    _route_class(net, host.default_route),
                ],
            }
            for net in nets
            for host in net.hosts
        ],
    }


def _hosts_class(net: BootNetwork) -> str:
    return f"{net.name}-hosts"


def _files_class(net: BootNetwork, file: str | None) -> str:
    return f"{net.name}-own{net.own_files.index(file) + 1}" if file else f"{net.name}-usual"


def _route_class(net: BootNetwork, route: DefaultRoute) -> str:
    return f"{net.name}-route{net.default_routes.index(route) + 1}"


def _classes(nets: Sequence[BootNetwork]) -> list[Json]:
    """First the ROM loads iPXE, for its kind of firmware (RFC 4578); then iPXE gets the script."""
    no_pxedhcp = [{"name": "ipxe"}, {"space": "ipxe", "name": "no-pxedhcp", "data": "1"}]
    return [
        {"name": HOST, "option-data": no_pxedhcp},
        {"name": "ipxe", "test": "option[77].hex == 'iPXE' or option[175].exists"},
        {"name": "http", "test": "not member('ipxe') and option[93].hex == 0x0010"},
        {
            "name": "uefi",
            "test": "not member('ipxe') and "
            "(option[93].hex == 0x0007 or option[93].hex == 0x0009)",
        },
        {"name": "rom", "test": "not (member('ipxe') or member('http'))"},
        {
            "name": "system",
            "test": "not (member('ipxe') or option[93].exists"
            " or substring(option[60].hex, 0, 9) == 'PXEClient'"
            " or substring(option[60].hex, 0, 10) == 'HTTPClient')",
        },
        *(one for net in nets for one in _classes_of(net)),
    ]  # fmt: skip


def _classes_of(net: BootNetwork) -> list[Json]:
    files = [(_files_class(net, file), file) for file in (None, *net.own_files)]
    hosts = _hosts_class(net)
    classes: list[Json] = [{"name": hosts}, *({"name": name} for name, _ in files)]
    classes.append(_class(f"{net.name}-script", "ipxe", hosts, net.script_url))
    for name, file in files:
        # What a firmware that boots by HTTP wants to hear.
        hello: Json = {"name": "vendor-class-identifier", "data": "HTTPClient", "always-send": True}
        url = f"{net.files_url}{file or BOOT_FILES['uefi']}"
        classes.append(_class(f"{name}-http", "http", name, url, [hello]))
        if file:
            classes.append(_class(f"{name}-rom", "rom", name, file))
        else:
            classes.append(_class(f"{name}-uefi", "uefi", name, BOOT_FILES["uefi"]))
            bios = _class(f"{name}-bios", "rom", name, BOOT_FILES["bios"])
            bios["test"] += " and not member('uefi')"
            classes.append(bios)
    for one in classes:
        if "boot-file-name" in one:
            one["next-server"] = str(net.server)
    return [*classes, *_route_classes(net)]


def _class(name: str, stage: str, who: str, file: str, options: list[Json] | None = None) -> Json:
    """Return a class for who is known (RFC 2131: `file`) at one stage of its boot."""
    return {
        "name": name,
        "test": _test(stage, who),
        "boot-file-name": file,
        "option-data": options or [],
    }


def _route_classes(net: BootNetwork) -> list[Json]:
    """Tell the running system of gateway and name servers; a ROM and iPXE never.

    What iPXE knows goes into the iBFT, and Windows would send its disk's traffic to a gateway that
    it finds there.
    """
    classes: list[Json] = []
    for route in net.default_routes:
        who = _route_class(net, route)
        values = {
            "routers": str(route.gateway or ""),
            "domain-name-servers": ", ".join(map(str, route.dns)),
        }
        options = [{"name": name, "data": data} for name, data in values.items() if data]
        test = _test("system", who)
        classes += [{"name": who}, {"name": f"{who}-system", "test": test, "option-data": options}]
    return classes


def _test(stage: str, who: str) -> str:
    return f"member('KNOWN') and member('{who}') and member('{stage}')"


def render(config: Config) -> str:
    """Return Kea's configuration, JSON.

    Raises:
        NetbootError: a value could change its meaning.
    """
    nets = describe(config)
    ours = fragment(nets)
    # Unknown hosts are not even refused: the reservation is looked up first, then this is judged.
    abroad = [
        f"(member('{_hosts_class(net)}') and not (pkt.iface == '{net.interface}'))" for net in nets
    ]
    # A refusal (DHCPDECLINE) in a host's name would keep its address from it for a day
    drop = " or ".join(["member('UNKNOWN')", "pkt4.msgtype == 4", *abroad])
    ours["client-classes"].append({"name": "DROP", "test": drop})
    document = {
        "Dhcp4": {
            "interfaces-config": {"interfaces": [f"{net.interface}/{net.server}" for net in nets]},
            # In its folder: a host that asks again after a new start is still known.
            "lease-database": {"type": "memfile", "persist": True, "name": LEASES},
            "authoritative": True,
            "early-global-reservations-lookup": True,
            "reservations-global": True,
            "reservations-in-subnet": False,
            "host-reservation-identifiers": ["hw-address"],
            "match-client-id": False,
            "valid-lifetime": LEASE,
            "subnet4": [
                {
                    "id": number,
                    "subnet": str(net.network),
                    "interface": net.interface,
                }
                for number, net in enumerate(nets, 1)
            ],
            "loggers": [
                {
                    "name": "kea-dhcp4",
                    "severity": "INFO",
                    "output_options": [{"output": "stdout", "pattern": "%-5p %m\n"}],
                }
            ],
            **ours,
        }
    }
    return json.dumps(document, indent=2) + "\n"


def program(folder: Path) -> Program:
    """Return how it is run with files in a folder: without root, but with the ports it needs."""
    file = folder / "kea-dhcp4.conf"
    capabilities = "+net_bind_service,+net_raw"
    return Program(
        name="kea-dhcp4",
        file=file,
        # From its folder: nobody may not be let in through the folders above
        argv=("env", "-C", str(folder),
              "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
              f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}",
              "kea-dhcp4", "-c", file.name),
        test=("kea-dhcp4", "-t", str(file)),
        env={"KEA_PIDFILE_DIR": ".", "KEA_LOCKFILE_DIR": "none"},
        install=INSTALL,
        started=STARTED,
        ack=ACK,
        broken=BROKEN,
    )  # fmt: skip


def make(config: Config, on_event: OnEvent) -> DhcpServer:
    """Return the server, not open yet."""
    return DhcpServer(config, on_event, program=program, render=render)
