"""Looks for power devices on a range of addresses. Nothing here is called unless someone asks."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ConfigError
from cuckoo_zfsiscsi.power.redfish_http import fingerprint_of

MOST = 1024
"""Addresses in one call."""
AT_ONCE = 32
PATIENCE = 2.0
"""Seconds for one device to answer one question."""
LARGEST = 64 * 1024
"""Bytes of one answer."""

AUTH_CAPABILITIES = bytes.fromhex("0600ff07 00 00000000 00000000 09 2018c88100388e04b5")
"""IPMI's Get Channel Authentication Capabilities, which needs no session (IPMI 2.0, 22.13)."""
COMMAND = 0x38
IPMI_2 = 0x80


@dataclass(frozen=True)
class Ports:
    """Where devices listen."""

    ipmi: int = 623
    redfish: int = 443
    amt: int = 16992


@dataclass(frozen=True)
class Found:
    """One device."""

    address: str
    driver: str
    what: str
    """What it says that it is."""
    url: str
    """As `power` of a host, but for the user."""


def discover(network: str, *, deadline: Deadline, ports: Ports | None = None) -> Iterator[Found]:
    """Ask each address of a range, politely, what it is; devices as they are found, in order.

    Args:
        network: like 10.98.0.0/24, or one address.
        deadline: for all of it.
        ports: where devices listen, if not where they should.

    Raises:
        ConfigError: not a range, or a large one.
        DeadlineExceededError, CancelledError: not all was asked.
    """
    try:
        addresses = ipaddress.ip_network(network, strict=False)
    except ValueError:
        raise ConfigError(
            f"{network} is not a range", fix="zfsiscsi discover 10.98.0.0/24"
        ) from None
    if addresses.num_addresses > MOST:
        raise ConfigError(
            f"{network} has {addresses.num_addresses} addresses, more than {MOST}",
            fix="ask for the BMCs' own network",
        )
    where = ports or Ports()
    hosts = list(addresses.hosts()) or [addresses.network_address]
    with ThreadPoolExecutor(min(AT_ONCE, len(hosts)), thread_name_prefix="discover") as pool:
        try:
            for found in pool.map(lambda a: _ask(str(a), where, deadline), hosts):
                deadline.check(f"the search of {network}")
                yield from found
        finally:
            pool.shutdown(cancel_futures=True)


def _ask(address: str, ports: Ports, deadline: Deadline) -> list[Found]:
    found = []
    for driver, look, port in (
        ("ipmi", _look_ipmi, ports.ipmi),
        ("redfish", _look_redfish, ports.redfish),
        ("amt", _look_amt, ports.amt),
    ):
        if deadline.cancel or not deadline.remaining:
            break
        what, more = look(address, port)
        if what:
            usual = getattr(Ports(), driver)
            at = address if port == usual else f"{address}:{port}"
            user = "admin" if driver == "amt" else "USER"
            found.append(Found(address, driver, what, f"{driver}://{user}@{at}{more}"))
    return found


def _look_ipmi(address: str, port: int) -> tuple[str, str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.settimeout(PATIENCE / 2)
        wire.connect((address, port))
        for _ in range(2):  # the first may be lost
            try:
                wire.send(AUTH_CAPABILITIES)
                answer = wire.recv(256)
            except OSError:
                continue
            if len(answer) > 23 and answer[3] == 7 and answer[19] == COMMAND:
                return ("IPMI 2.0" if answer[22] & IPMI_2 else "IPMI 1.5: too old"), ""
            return "", ""
    return "", ""


def _look_redfish(address: str, port: int) -> tuple[str, str]:
    """Read the service root, which is open to all (DSP0266); nothing secret is said."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    peer = http.client.HTTPSConnection(address, port, timeout=PATIENCE, context=context)
    try:
        peer.request("GET", "/redfish/v1/")
        answer = peer.getresponse()
        root = json.loads(answer.read(LARGEST)) if answer.status == http.client.OK else {}
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return "", ""
    finally:
        peer.close()
    if not isinstance(root, dict) or "RedfishVersion" not in root:
        return "", ""
    names = [str(root[key])[:40] for key in ("Vendor", "Product", "Name") if root.get(key)]
    what = f"Redfish {str(root['RedfishVersion'])[:10]}: {' '.join(names[:2])}"
    return what, f"?fingerprint={fingerprint_of(address, port)}"


def _look_amt(address: str, port: int) -> tuple[str, str]:
    peer = http.client.HTTPConnection(address, port, timeout=PATIENCE)
    try:
        peer.request("GET", "/")
        server = str(peer.getresponse().getheader("Server", ""))
    except (OSError, http.client.HTTPException):
        return "", ""
    finally:
        peer.close()
    return (server[:60], "") if "Active Management Technology" in server else ("", "")
