"""The ports that the service needs: free, or its own already."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.doctor.system import System

UNIT = "zfsiscsi.service"
LIO = "/sys/kernel/config/target/iscsi"
ANY = ("0.0.0.0", "*", "::")  # noqa: S104 - what others bind to


@dataclass(frozen=True, slots=True)
class Need:
    """One port."""

    kind: str
    """tcp or udp."""
    address: str
    port: int
    key: str
    """Where it is configured."""
    interface: str = ""
    """Only a socket on this interface, or on all, is in the way."""

    def __str__(self) -> str:
        return f"{self.kind} {self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Used:
    """One socket that somebody listens on, as ss(8) says."""

    kind: str
    address: str
    interface: str
    port: int
    programs: tuple[tuple[str, int], ...]
    """Name and process id; nothing for the kernel's own."""


def check_ports(config: Config, system: System) -> Iterator[Finding]:
    """Compare what is needed with what is listened on."""
    answer = system.run(["ss", "-Hlnptu"])
    if answer is None or answer.code:
        yield Finding("warning", "ports", "ss does not say who listens", "apt install iproute2")
        return
    used = list(parse(answer.out))
    good = []
    for need in needs(config):
        problems = [
            p for one in used if _clash(need, one) and (p := _problem(need, one, config, system))
        ]
        if problems:
            yield problems[0]
        else:
            good.append(str(need))
    if good:
        yield Finding("ok", "ports", f"free, or the service's own: {', '.join(good)}")


def needs(config: Config) -> list[Need]:
    """Return what the configuration makes the service listen on."""
    netboot = config.netboot
    found = []
    for network in config.networks:
        address, interface = str(network.address.ip), network.interface
        portal = str(network.portal_ip)
        hosts = [host for host in config.hosts if host.network == network.name]
        found += [
            Need("tcp", portal, config.portal_port_of(host), f"[{host.label}] portal_port")
            for host in hosts
        ]
        found += [
            Need("tcp", address, netboot.boot_port, "[netboot] boot_port"),
            Need("udp", address, 69, "TFTP", interface),
        ]
        if netboot.dhcp != "external":
            found.append(Need("udp", address, 67, "DHCP", interface))
    url = urlsplit(config.zfsiscsi.service)
    if url.scheme != "unix":
        found.append(Need("tcp", url.hostname or "", url.port or 80, "[zfsiscsi] service"))
    return found


def parse(text: str) -> Iterator[Used]:
    """Read what `ss -Hlnptu` prints."""
    for line in text.splitlines():
        words = line.split(maxsplit=6)
        if len(words) < 6:
            continue
        address, _, port = words[4].rpartition(":")
        address, _, interface = address.replace("[", "").replace("]", "").partition("%")
        programs = re.findall(r'\("([^"]*)",pid=(\d+)', words[6] if len(words) > 6 else "")
        if port.isdigit():
            yield Used(words[0], address, interface, int(port),
                       tuple((name, int(pid)) for name, pid in programs))  # fmt: skip


def _clash(need: Need, used: Used) -> bool:
    if (need.kind, need.port) != (used.kind, used.port):
        return False
    if used.interface and need.interface and used.interface != need.interface:
        return False
    return used.address in ANY or used.address == need.address


def _problem(need: Need, used: Used, config: Config, system: System) -> Finding | None:
    if any(_is_ours(pid, config, system) for _, pid in used.programs):
        return None
    if not used.programs and (name := _lio_target(need, system)):
        if name.startswith(config.storage.iqn):
            return None
        what = f"the kernel's target listens there already, for {name}; both can"
        return Finding("info", f"{need.key}: {need}", what, "targetcli ls /iscsi")
    who = ", ".join(f"{name}, process {pid}" for name, pid in used.programs)
    what = f"{who or 'somebody'} has the port"
    fix = f"ss -lnptu 'sport = :{need.port}', then stop it"
    return Finding("error", f"{need.key}: {need}", what, fix)


def _is_ours(pid: int, config: Config, system: System) -> bool:
    """Tell whether a process is the service or a child of it, by systemd or by pid file."""
    if UNIT in (system.read(f"/proc/{pid}/cgroup") or ""):
        return True
    words = (system.read(f"/proc/{pid}/cmdline") or "").rstrip("\0").split("\0")
    if words[-1] == "serve" and any("zfsiscsi" in word for word in words):
        return True
    run_dir = config.zfsiscsi.run_dir
    files = [name for name in system.names(run_dir) if name.endswith(".pid")]
    return pid in [system.number(run_dir / name) for name in files]


def _lio_target(need: Need, system: System) -> str | None:
    """Return the target that has the kernel listen there."""
    for name in system.names(LIO):
        for group in system.names(f"{LIO}/{name}"):
            for portal in system.names(f"{LIO}/{name}/{group}/np"):
                if portal.rpartition(":")[2] == str(need.port):
                    return name
    return None
