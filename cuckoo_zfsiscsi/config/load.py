"""Read zfsiscsi.conf as a whole: either all of it is right, or all of its mistakes are told."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from cuckoo_zfsiscsi.config.base import Section
from cuckoo_zfsiscsi.config.fields import parse_network_name
from cuckoo_zfsiscsi.config.host import HostConfig
from cuckoo_zfsiscsi.config.ini import Ini, read_ini
from cuckoo_zfsiscsi.config.mistakes import InvalidConfigError, Mistake, nearest
from cuckoo_zfsiscsi.config.model import Config, General, Netboot, Storage
from cuckoo_zfsiscsi.config.network_rules import check_networks
from cuckoo_zfsiscsi.config.networks import MAIN, PREFIX, Network
from cuckoo_zfsiscsi.config.rules import check_together
from cuckoo_zfsiscsi.config.section import Checked, check_section
from cuckoo_zfsiscsi.config.templates import expand
from cuckoo_zfsiscsi.config.wrong import WrongValueError

FIXED: dict[str, type[Section]] = {"zfsiscsi": General, "storage": Storage, "netboot": Netboot}


def load(path: Path, *, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check a file. Secret files are neither read nor looked for.

    Raises:
        InvalidConfigError: it has mistakes; these are all of them.
        ConfigError: there is no such file, or it is not text.
    """
    ini = expand(read_ini(path, environ))
    mistakes = list(ini.mistakes)
    fixed = {name: _check_fixed(name, model, ini, mistakes) for name, model in FIXED.items()}
    hosts = {
        name: _check(HostConfig, name, ini, meant)
        for name, meant in _listed(fixed["zfsiscsi"], ini, mistakes).items()
    }
    networks = _networks(ini, mistakes)
    for host in hosts.values():
        _choose_network(host, networks)
    for section in (*fixed.values(), *networks.values(), *hosts.values()):
        mistakes += section.mistakes
    mistakes += check_together(fixed, hosts)
    mistakes += check_networks(fixed, networks, hosts)
    if mistakes:
        order = ["", *ini.sections]
        mistakes.sort(key=lambda m: order.index(m.section) if m.section in order else 0)
        raise InvalidConfigError(path, mistakes)
    return Config(
        path=path,
        zfsiscsi=General.model_validate(fixed["zfsiscsi"].given),
        storage=Storage.model_validate(fixed["storage"].given),
        netboot=Netboot.model_validate(fixed["netboot"].given),
        hosts=tuple(
            HostConfig.model_validate({"section": label, **host.given})
            for label, host in hosts.items()
        ),
        more_networks=tuple(
            Network.model_validate({"name": name, **network.given})
            for name, network in networks.items()
        ),
    )


def _check(model: type[Section], name: str, ini: Ini, meant: str = "") -> Checked:
    unread = {key for section, key in ini.wrong if section == name}
    checked = check_section(model, name, ini.sections[name], unread)
    checked.meant = meant or name
    return checked


def _check_fixed(name: str, model: type[Section], ini: Ini, mistakes: list[Mistake]) -> Checked:
    """Check a section that every file has, also when its name is misspelt."""
    if name in ini.sections:
        return _check(model, name, ini)
    for other in _strangers(ini):
        if nearest(other, FIXED) == name:
            reason = "this section is unknown"
            mistakes.append(Mistake(other, "", "", reason, f"did you mean [{name}]?"))
            return _check(model, other, ini)
    fix = f"add a section [{name}] with at least: {_least(model)}"
    mistakes.append(Mistake(name, "", "", "this section is missing", fix))
    return Checked()


def _least(model: type[Section]) -> str:
    needed = {key: info for key, info in model.keys().items() if info.is_required()}
    return ", ".join(f"{key} = {(info.examples or [''])[0]}" for key, info in needed.items())


def _networks(ini: Ini, mistakes: list[Mistake]) -> dict[str, Checked]:
    """Check the sections of further networks; return them by the networks' names."""
    found = {}
    for section in filter(_is_network, ini.sections):
        name = section.partition(":")[2]
        if not section.startswith(PREFIX):
            fix = f"did you mean [{PREFIX}{name}]?"
            mistakes.append(Mistake(section, "", "", "this section is unknown", fix))
        try:
            parse_network_name(name)
        except WrongValueError as error:
            mistakes.append(Mistake(section, "", "", error.reason, error.fix))
        if name == MAIN:
            fix = f"rename it, for example [{PREFIX}vlan20]"
            mistakes.append(Mistake(section, "", "", f"is the network of [{MAIN}]", fix))
        found[name] = _check(Network, section, ini)
    return found


def _choose_network(host: Checked, networks: Collection[str]) -> None:
    """Put a host that names no network into that of its own name, if there is one."""
    if "network" not in host.given and host.meant in networks:
        host.given["network"] = host.values["network"] = host.meant


def _is_network(section: str) -> bool:
    """Tell by the colon, which no host's name has."""
    return ":" in section


def _machines(ini: Ini) -> list[str]:
    """Return what is listed, whether or not it is right."""
    text = ini.sections.get("zfsiscsi", {}).get("machines", "")
    return [label.strip() for label in text.split(",") if label.strip()]


def _strangers(ini: Ini) -> list[str]:
    """Return the sections that are neither ours nor a network's nor of a listed host."""
    known = {*FIXED, *_machines(ini)}
    return [name for name in ini.sections if name not in known and not _is_network(name)]


def _listed(general: Checked, ini: Ini, mistakes: list[Mistake]) -> dict[str, str]:
    """Compare the listed hosts with the sections.

    Returns:
        For each section that is of a host: the name that it should have.
    """
    strangers = [
        name
        for name in _strangers(ini)
        if not any(fixed not in ini.sections and nearest(name, FIXED) == fixed for fixed in FIXED)
    ]
    if "machines" not in general.given:
        return {
            name: name for name in strangers
        }  # that is a mistake by itself; check the hosts all the same
    machines = list(dict.fromkeys(_machines(ini)))
    alone = [label for label in machines if label not in ini.sections]
    hosts = {label: label for label in machines if label in ini.sections}
    for name in strangers:
        best = nearest(name, alone)
        hosts[name] = best or name
        reason = "this section is unknown, and machines lists no host of this name"
        if best:
            fix = f"did you mean [{best}]?"
            alone.remove(best)
        else:
            fix = f"remove it; or, if it is a host: machines = {','.join([*machines, name])}"
        mistakes.append(Mistake(name, "", "", reason, fix))
    for label in alone:
        fix = f"add a section [{label}], or remove it from machines"
        reason = f"there is no section [{label}]"
        mistakes.append(Mistake("zfsiscsi", "machines", ",".join(machines), reason, fix))
    return hosts
