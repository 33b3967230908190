"""The server's own addresses, by iproute2."""

from __future__ import annotations

import json
import logging
import subprocess
from ipaddress import IPv4Address, ip_address

from cuckoo_zfsiscsi.config import Network
from cuckoo_zfsiscsi.environment import for_child
from cuckoo_zfsiscsi.errors import NetbootError

TIMEOUT = 5.0

log = logging.getLogger(__name__)


def ensure_addresses(network: Network) -> None:
    """Check that the interface has its IPv4 address; add one of ra_prefix if it has none.

    Raises:
        NetbootError: the interface is missing or down or has not that address, or none can be
            added.
    """
    name = network.interface
    found = _ip("-json", "address", "show", "dev", name)
    entry = json.loads(found)[0]
    have = [ip_address(address["local"]) for address in entry["addr_info"] if "local" in address]
    if "UP" not in entry["flags"]:
        raise NetbootError(f"the interface {name} is down", fix=f"ip link set {name} up")
    if network.address.ip not in have:
        raise NetbootError(
            f"the interface {name} has not the address {network.address.ip}",
            fix=f"ip address add {network.address} dev {name}",
        )
    prefix = network.ra_prefix
    if prefix and not any(address in prefix for address in have):
        added = f"{prefix[1]}/{prefix.prefixlen}"
        # nodad: nobody else has this prefix, and dnsmasq would wait for the detection.
        _ip("-6", "address", "replace", added, "dev", name, "nodad")
        log.info("%s: added the address %s, for router advertisements", name, added)


def own_addresses() -> dict[IPv4Address, str]:
    """Return every IPv4 address of this server, with its interface.

    Raises:
        NetbootError: ip(8) can't be asked.
    """
    return {
        IPv4Address(address["local"]): entry["ifname"]
        for entry in json.loads(_ip("-4", "-json", "address", "show"))
        for address in entry["addr_info"]
        if "local" in address
    }


def _ip(*args: str) -> str:
    try:
        result = subprocess.run(
            ["ip", *args],
            env=for_child(),
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except FileNotFoundError:
        raise NetbootError("ip is not installed", fix="apt install iproute2") from None
    except subprocess.TimeoutExpired:
        raise NetbootError(f"ip {' '.join(args)} does not end") from None
    if result.returncode:
        raise NetbootError(
            f"ip {' '.join(args)}: {result.stderr.strip()}",
            fix="check interface and ra_prefix of the networks in zfsiscsi.conf",
        )
    return result.stdout
