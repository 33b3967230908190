"""Validators of addresses and names on the network. All raise WrongValueError."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Interface, IPv6Network
from urllib.parse import urlsplit

from cuckoo_zfsiscsi.config.wrong import WrongValueError

_MAC = re.compile(
    r"[0-9a-f]{2}(?P<sign>[:-]?)(?:[0-9a-f]{2}(?P=sign)){4}[0-9a-f]{2}"
    r"|[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}"
)
# RFC 3720 3.2.6.3.1: year and month, a reversed domain, then anything that RFC 3722 leaves in.
_IQN = re.compile(
    r"iqn\.[0-9]{4}-(?:0[1-9]|1[0-2])(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+(?::[a-z0-9.:-]+)?"
)
_IQN_LONGEST = 223 - len(":" + 63 * "x" + ".g" + 10 * "9")  # RFC 3720 3.2.6.1, less what we append
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}")


def parse_mac(text: str) -> str:
    """Return a MAC address as aa:bb:cc:dd:ee:ff from any usual notation."""
    if not _MAC.fullmatch(text.lower()):
        raise WrongValueError("is not a MAC address, six pairs of hex digits")
    digits = re.sub("[^0-9a-f]", "", text.lower())
    if digits == 12 * "0":
        raise WrongValueError("all zero is no network card's address")
    if int(digits[:2], 16) & 1:
        raise WrongValueError("is a multicast or broadcast address, no network card has it")
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


def parse_iqn(text: str) -> str:
    """Check an iSCSI name, in the one of its forms that we use."""
    if not _IQN.fullmatch(text):
        reason = "is not an iSCSI name iqn.YEAR-MONTH.REVERSED-DOMAIN[:NAME], in lower case"
        raise WrongValueError(reason)
    if len(text) > _IQN_LONGEST:
        raise WrongValueError(f"is longer than {_IQN_LONGEST} characters")
    return text


def parse_interface(text: str) -> str:
    """Check the name of a Linux network interface."""
    if not _INTERFACE.fullmatch(text) or text in (".", ".."):
        raise WrongValueError("is not the name of a network interface", "pick one: ip -br link")
    return text


def parse_service(text: str) -> str:
    """Check the URL of the service."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise WrongValueError("is not a URL") from None
    if url.scheme == "unix":
        if url.netloc or not url.path.startswith("/") or len(url.path) > 107:  # unix(7)
            raise WrongValueError("is not unix:///PATH", "service = unix:///run/zfsiscsi/api.sock")
        return text
    if url.scheme not in ("http", "https") or not url.hostname:
        raise WrongValueError("is neither http://ADDRESS:PORT nor unix:///PATH")
    if "@" in url.netloc:
        fix = "take it out of the URL and put the token's file into token_file"
        raise WrongValueError("has credentials in it", fix)
    if port is None or port == 0 or url.path not in ("", "/") or url.query or url.fragment:
        raise WrongValueError("must be http://ADDRESS:PORT and nothing more")
    return text.rstrip("/")


def check_address(address: IPv4Address) -> IPv4Address:
    """Refuse what no machine can have."""
    if address.is_unspecified or address.is_multicast or address == IPv4Address(2**32 - 1):
        raise WrongValueError("is not an address that one machine can have")
    return address


def check_own_address(address: IPv4Interface) -> IPv4Interface:
    """Check an address that says how large its network is."""
    network = address.network
    if network.prefixlen > 30:
        raise WrongValueError("has no network's size: ADDRESS/BITS with BITS at most 30")
    if address.ip in (network.network_address, network.broadcast_address):
        raise WrongValueError(f"is the first or last address of {network}, no machine can have it")
    return address


def check_ula(network: IPv6Network | None) -> IPv6Network | None:
    """Check a prefix for router advertisements."""
    # RFC 4193; a host takes its address from a /64 alone (RFC 4862 5.5.3 and RFC 4291 2.5.1).
    if network and (network.prefixlen != 64 or not network.subnet_of(IPv6Network("fc00::/7"))):
        raise WrongValueError("is not a private IPv6 /64 network (within fc00::/7)")
    return network
