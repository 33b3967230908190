"""Looks at the storage server: programs, network, files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.check.certificate import check_certificate
from cuckoo_zfsiscsi.config import Config, Network
from cuckoo_zfsiscsi.disk.target.tgt_sandbox import PACKAGES
from cuckoo_zfsiscsi.environment import for_child, search_path
from cuckoo_zfsiscsi.errors import ConfigError
from cuckoo_zfsiscsi.netboot.describe import boot_file

_TIMEOUT = 10.0
_TOOLS = {
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
    "qemu-img": "qemu-utils",
}
"""Program, and Debian's package that has it."""
_TARGET_TOOLS = {"tgt": PACKAGES}
"""`target` in [storage]: what it is, and runs in."""
_POWER_TOOLS = {"amt": ("amttool", "amtterm"), "ipmi": ("ipmitool", "ipmitool")}
"""Scheme of a power URL: what its driver runs, and the package."""
_DHCP_TOOLS = {
    "isc": {"dhcpd": "isc-dhcp-server"},
    "kea": {"kea-dhcp4": "kea-dhcp4-server"},
    "paper": {"dhcpd": "isc-dhcp-server", "in.tftpd": "tftpd-hpa"},
}
"""`dhcp` in [netboot]: what else is run, and the package."""

_GATEWAY_TOOLS = {"conntrack": "conntrack"}
"""What ends connections of a run that is over."""


def check_server(config: Config) -> Iterator[Finding]:
    """Check all of it, quickly."""
    yield from _check_tools(config)
    for network in config.networks:
        yield from _check_network(network)
    yield from _check_boot_files(config)
    yield _check_token(config)
    yield check_certificate(config)
    yield _check_store_path(config)


def find_program(name: str) -> str | None:
    """Return the path of a program, also from the folders of system programs."""
    return shutil.which(name, path=search_path())


def _check_tools(config: Config) -> Iterator[Finding]:
    schemes = {url.driver for host in config.hosts for url in host.power_urls}
    tools = {**_TOOLS, **dict(_POWER_TOOLS[s] for s in sorted(schemes) if s in _POWER_TOOLS)}
    tools |= _TARGET_TOOLS.get(config.storage.target, {})
    tools |= _DHCP_TOOLS.get(config.netboot.dhcp, {})
    own = {network.address.ip for network in config.networks}
    if any(config.default_route(host).gateway in own for host in config.hosts):
        tools |= _GATEWAY_TOOLS
    missing = {name: package for name, package in tools.items() if not find_program(name)}
    for name, package in missing.items():
        yield Finding("error", name, "is not installed", f"apt install {package}")
    if not missing:
        yield Finding("ok", "programs", f"{', '.join(sorted(tools))} are installed")


def _check_network(network: Network) -> Iterator[Finding]:
    name = network.interface
    where = f"[{network.section}] interface = {name}"
    link = _interface(name)
    if link is None:
        yield Finding("error", where, "there is no such interface", "pick one: ip -br link")
        return
    if "UP" not in link["flags"]:
        yield Finding("error", where, "it is down", f"ip link set {name} up")
    have = [ip_address(entry["local"]) for entry in link["addr_info"] if "local" in entry]
    if network.address.ip in have:
        yield Finding("ok", where, f"has {network.address.ip}")
    else:
        fix = f"ip addr add {network.address} dev {name}"
        what = f"does not have {network.section}.address {network.address.ip}"
        yield Finding("error", where, what, fix)
    prefix = network.ra_prefix
    if prefix and not any(address in prefix for address in have):
        what = f"has no address in ra_prefix yet; the service adds {prefix[1]} when it starts"
        yield Finding("info", where, what, f"not needed; by hand: ip -6 addr add {prefix[1]}/64 "
                      f"dev {name}")  # fmt: skip


def _interface(name: str) -> dict[str, Any] | None:
    """Return what iproute2 knows of an interface, or None."""
    try:
        answer = subprocess.run(
            [find_program("ip") or "ip", "-json", "address", "show", "dev", name],
            env=for_child(), check=True, capture_output=True, timeout=_TIMEOUT,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    found: list[dict[str, Any]] = json.loads(answer)
    return found[0] if found else None


def _check_boot_files(config: Config) -> Iterator[Finding]:
    root = config.netboot.tftp_root
    wanted: dict[str, list[str]] = {}
    for host in config.hosts:
        wanted.setdefault(boot_file(host), []).append(host.label)
    for file, labels in wanted.items():
        where = f"[netboot] tftp_root = {root}"
        if (root / file).is_file():
            yield Finding("ok", where, f"{file} is there, for {', '.join(labels)}")
        else:
            what = f"there is no {file}, needed by {', '.join(labels)}"
            yield Finding("error", where, what, f"apt install ipxe; ls {root}")


def _check_token(config: Config) -> Finding:
    where = "[zfsiscsi] token_file"
    try:
        token = config.zfsiscsi.read_token()
    except ConfigError as error:
        return Finding("error", where, error.what.removeprefix(f"{where}: "), error.fix)
    if token is None:
        return Finding("ok", where, "not needed: the service is a unix socket")
    if len(token.get_secret_value()) < 16:
        fix = f"head -c 24 /dev/urandom | base64 > {config.zfsiscsi.token_file}"
        return Finding("warning", where, "the token is shorter than 16 characters", fix)
    return Finding("ok", where, "can be read by its owner alone")


def _check_store_path(config: Config) -> Finding:
    path = config.storage.path
    where = f"[storage] path = {path}"
    if not path.is_dir():
        return Finding("error", where, "is not a folder", f"install -d -m 700 {path}")
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding("error", where, "can't be written", f"as root? ls -ld {path}; df {path}")
    return Finding("ok", where, f"{shutil.disk_usage(path).free / 1e9:.0f} GB are free")
