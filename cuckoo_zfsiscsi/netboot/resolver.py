"""The name server that this server itself asks, found in what resolv.conf(5) says."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

FILES = (
    Path("/etc/resolv.conf"),
    # Where that names a resolver on this server: whom that one asks
    Path("/run/systemd/resolve/resolv.conf"),
    Path("/run/NetworkManager/no-stub-resolv.conf"),
)


def find_resolver(own: Container[IPv4Address], files: Iterable[Path] = FILES) -> IPv4Address | None:
    """Return the first that is on another server; None if none is known.

    Args:
        own: this server's addresses.
        files: to look into, in this order.
    """
    for file in files:
        for address in _servers(file):
            if not (address.is_loopback or address.is_unspecified or address in own):
                return address
    return None


def _servers(file: Path) -> Iterator[IPv4Address]:
    try:
        lines = file.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            yield IPv4Address(words[1])
        except AddressValueError:  # of IPv6: guests have none
            continue
