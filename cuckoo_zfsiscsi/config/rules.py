"""What must hold between keys and between sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Interface
from itertools import combinations
from typing import Any

from cuckoo_zfsiscsi.config.mistakes import Mistake
from cuckoo_zfsiscsi.config.powerurl import PowerUrl
from cuckoo_zfsiscsi.config.section import Checked


def check_together(fixed: Mapping[str, Checked], hosts: Mapping[str, Checked]) -> Iterator[Mistake]:
    """Check what is right by itself; wrong or missing values are left out."""
    yield from _check_token(fixed["zfsiscsi"])
    own = fixed["netboot"].values.get("address")
    taken = {fixed["storage"].values.get("portal"): "storage.portal"}
    if own:
        taken[own.ip] = "netboot.address"
    for name, host in hosts.items():
        label = host.values.get("label")
        if label is not None and label != host.meant:
            reason = f"must be the same as its section's name, {host.meant}"
            if label in hosts:
                reason = f"is the label of another host, in section [{label}]"
            yield _mistake(name, host, "label", reason, f"label = {host.meant}")
        if own:
            yield from _check_address(name, host, own)
        ip = host.values.get("ip")
        if ip is not None and ip in taken:
            reason = f"is the server's own address ({taken[ip]})"
            yield _mistake(name, host, "ip", reason, f"give {name} another address")
    for (one, a), (two, b) in combinations(hosts.items(), 2):
        for key in ("ip", "mac"):
            if key in a.values and a.values[key] == b.values.get(key):
                reason = f"is the {key} of {one} too"
                yield _mistake(two, b, key, reason, f"give {two} its own {key}")
        yield from _check_outlets(one, a, two, b)


def _check_token(general: Checked) -> Iterator[Mistake]:
    service = general.values.get("service")
    if service is None or service.startswith("unix:") or "token_file" in general.wrong:
        return
    if general.values.get("token_file") is None:
        reason = "must be set when the service listens on TCP"
        fix = "token_file = /etc/zfsiscsi/token; or service = unix:///run/zfsiscsi/api.sock"
        yield Mistake("zfsiscsi", "token_file", "", reason, fix)


def _check_address(name: str, host: Checked, own: IPv4Interface) -> Iterator[Mistake]:
    ip: Any = host.values.get("ip")
    network = own.network
    if ip is None:
        return
    if ip not in network:
        reason = f"is outside {network}, the network of netboot.address"
        yield _mistake(name, host, "ip", reason, f"give {name} an address in {network}")
    elif ip in (network.network_address, network.broadcast_address):
        reason = f"is the first or last address of {network}, no machine can have it"
        yield _mistake(name, host, "ip", reason, f"give {name} another address in {network}")


def _check_outlets(one: str, a: Checked, two: str, b: Checked) -> Iterator[Mistake]:
    first, second = a.values.get("power"), b.values.get("power")
    if isinstance(first, PowerUrl) and isinstance(second, PowerUrl) and first.same_outlet(second):
        reason = f"switches the power of {one} too"
        fix = f"give {two} its own address, or tell the outlets of one device apart: ?outlet=2"
        yield _mistake(two, b, "power", reason, fix)


def _mistake(section: str, checked: Checked, key: str, reason: str, fix: str) -> Mistake:
    return Mistake(section, key, checked.given[key], reason, fix)
