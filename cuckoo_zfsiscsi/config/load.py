"""Read zfsiscsi.conf as a whole: either all of it is right, or all of its mistakes are told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cuckoo_zfsiscsi.config.ini import Ini, read_ini
from cuckoo_zfsiscsi.config.mistakes import InvalidConfigError, Mistake, nearest
from cuckoo_zfsiscsi.config.model import Config, General, HostConfig, Netboot, Section, Storage
from cuckoo_zfsiscsi.config.rules import check_together
from cuckoo_zfsiscsi.config.section import Checked, check_section

FIXED: dict[str, type[Section]] = {"zfsiscsi": General, "storage": Storage, "netboot": Netboot}


def load(path: Path, *, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check a file. Secret files are neither read nor looked for.

    Raises:
        InvalidConfigError: it has mistakes; these are all of them.
        ConfigError: there is no such file, or it is not text.
    """
    ini = read_ini(path, environ)
    mistakes = list(ini.mistakes)
    checked = _check_fixed(ini, mistakes)
    general = checked["zfsiscsi"]
    others = [name for name in ini.sections if name not in FIXED]
    if "machines" in general.values:
        labels = list(general.values["machines"])
        _check_listed(labels, others, mistakes)
    else:
        labels = others  # check them all the same
    hosts = {label: _check(HostConfig, label, ini) for label in labels if label in ini.sections}
    for section in (*checked.values(), *hosts.values()):
        mistakes += section.mistakes
    mistakes += check_together(checked, hosts)
    if mistakes:
        order = ["", *ini.sections]
        mistakes.sort(key=lambda m: order.index(m.section) if m.section in order else 0)
        raise InvalidConfigError(path, mistakes)
    return Config(
        path=path,
        zfsiscsi=General.model_validate(checked["zfsiscsi"].given),
        storage=Storage.model_validate(checked["storage"].given),
        netboot=Netboot.model_validate(checked["netboot"].given),
        hosts=tuple(
            HostConfig.model_validate({"section": label, **host.given})
            for label, host in hosts.items()
        ),
    )


def _check(model: type[Section], name: str, ini: Ini) -> Checked:
    unread = {key for section, key in ini.wrong if section == name}
    return check_section(model, name, ini.sections[name], unread)


def _check_fixed(ini: Ini, mistakes: list[Mistake]) -> dict[str, Checked]:
    """Check the sections that every file has."""
    checked = {}
    for name, model in FIXED.items():
        if name in ini.sections:
            checked[name] = _check(model, name, ini)
            continue
        checked[name] = Checked()
        if not any(nearest(other, FIXED) == name for other in ini.sections):
            fix = f"add [{name}], as in the example that comes with us"
            mistakes.append(Mistake(name, "", "", "this section is missing", fix))
    return checked


def _check_listed(labels: list[str], others: list[str], mistakes: list[Mistake]) -> None:
    """Compare the hosts that are listed with those that have a section."""
    known = [*FIXED, *labels]
    for name in others:
        if name in labels:
            continue
        best = nearest(name, [k for k in known if k not in others])
        fix = f"add it: machines = {','.join([*labels, name])}; or remove the section"
        if best:
            fix = f"did you mean [{best}]?"
        reason = "this section is unknown, and no host listed in machines"
        mistakes.append(Mistake(name, "", "", reason, fix))
    for label in labels:
        if label not in others and not any(
            nearest(name, [label]) for name in others if name not in labels
        ):
            fix = f"add a section [{label}], or remove it from machines"
            reason = f"there is no section [{label}]"
            mistakes.append(Mistake("zfsiscsi", "machines", ",".join(labels), reason, fix))
