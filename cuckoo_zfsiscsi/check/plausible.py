"""What is allowed, and yet unlikely to be meant. Looks at nothing but the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config, HostConfig, Network

_WINDOWS = ("winxp", "win7", "win10", "win11")


def check_plausible(config: Config) -> Iterator[Finding]:
    """Warn of what will hurt later."""
    for network in config.networks:
        yield from _check_network(network)
    if _is_in(urlsplit(config.zfsiscsi.service).hostname, config):
        yield Finding(
            "warning",
            f"[zfsiscsi] service = {config.zfsiscsi.service}",
            "malware on the hosts can reach the service there",
            "let it listen on another network, or service = unix:///run/zfsiscsi/api.sock",
        )
    for host in config.hosts:
        yield from _check_host(host, config.zfsiscsi.start_timeout)


def _check_network(network: Network) -> Iterator[Finding]:
    if network.portal_ip not in network.address.network:
        what = f"is outside {network.address.network}, and iPXE hears of no gateway"
        yield Finding(
            "warning",
            network.portal_key,
            f"{what}: they can't reach it",
            f"portal = {network.address.ip}",
        )
    if network.ra_prefix is None:
        yield Finding(
            "warning",
            f"[{network.section}] ra_prefix",
            "without router advertisements iPXE waits 13 s for IPv6 at every boot",
            "ra_prefix = fd99:0:0:1::/64",
        )


def _is_in(host: str | None, config: Config) -> bool:
    try:
        address = ip_address(host or "")
    except ValueError:  # a name, or a socket
        return False
    return address.is_unspecified or any(
        address in network.address.network for network in config.networks
    )


def _check_host(host: HostConfig, start_timeout: float) -> Iterator[Finding]:
    if host.boot_timeout + host.power_timeout > start_timeout:
        yield Finding(
            "warning",
            f"[{host.section}] boot_timeout = {host.boot_timeout:g}",
            "with power_timeout it is longer than start_timeout: CAPE gives up first",
            f"[zfsiscsi] start_timeout = {host.boot_timeout + host.power_timeout + 60:g}",
        )
    if host.platform != "windows":
        return
    where = f"[{host.section}] tags = {','.join(host.tags)}"
    if not set(_WINDOWS) & set(host.tags):
        what = "CAPE wants to know which Windows it is"
        yield Finding("warning", where, what, f"add one of {', '.join(_WINDOWS)}")
    if host.arch == "x64" and "x64" not in host.tags:
        yield Finding("warning", where, "CAPE gives it no 64-bit samples", "add x64")
