"""Whether the ruleset is loaded, and is what zfsiscsi.conf makes now.

What is loaded is compared with what the kernel says when it is given the rules of now, in a network
namespace of nobody's: so a rule that somebody has removed by hand is missed, too.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from typing import Any

from cuckoo_zfsiscsi.check import Finding, failed
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.doctor.system import Answer, System
from cuckoo_zfsiscsi.errors import NetbootError
from cuckoo_zfsiscsi.netboot.firewall import TABLES, look, render

UNIT = "zfsiscsi-firewall.service"
WHERE = "firewall"
LIST = "nft --json --stateless list ruleset"
BY_HAND = "zfsiscsi netboot firewall --apply"

Tables = dict[str, list[str]]
"""What is in each of our tables."""


def check_firewall(config: Config, system: System) -> Iterator[Finding]:
    """Ask nft(8) and systemd."""
    if not system.is_root:  # it says nothing then
        return
    loaded = system.run(LIST.split())
    if loaded is None:
        what = "nft is not installed: guests reach the whole server"
        yield Finding("warning", WHERE, what, "apt install nftables")
        return
    if loaded.code:
        yield Finding("warning", WHERE, f"nft does not list what is loaded: {loaded.reason}", LIST)
        return
    runs_systemd = system.exists("/run/systemd/system")
    found = read(loaded)
    if not found:
        what = "the ruleset is not loaded: guests reach the whole server, and can fill it"
        fix = f"systemctl enable --now {UNIT}" if runs_systemd else BY_HAND
        yield Finding("warning", WHERE, what, fix)
        return
    yield _compare(found, config, system, f"systemctl reload {UNIT}" if runs_systemd else BY_HAND)
    if runs_systemd:
        enabled = system.run(["systemctl", "is-enabled", UNIT])
        if enabled is None or enabled.out.strip() != "enabled":
            what = "the ruleset is not loaded when this server starts"
            yield Finding("warning", UNIT, what, f"systemctl enable {UNIT}")


def _compare(found: Tables, config: Config, system: System, fix: str) -> Finding:
    try:
        rules = render(config, look())
    except NetbootError as error:
        return failed(WHERE, error, fix=BY_HAND)
    with tempfile.NamedTemporaryFile("w", prefix="zfsiscsi-", suffix=".nft") as file:
        file.write(rules)
        file.flush()
        script = f'nft --file "$1" && exec {LIST}'
        wanted = system.run(["unshare", "--net", "sh", "-c", script, "sh", file.name])
    if wanted is None or wanted.code:
        reason = wanted.reason if wanted else "unshare is not installed"
        what = f"is loaded; whether as zfsiscsi.conf makes it is not known: {reason}"
        return Finding("warning", WHERE, what, f"zfsiscsi netboot firewall; {fix}")
    if found != read(wanted):
        what = "the loaded ruleset is not what zfsiscsi.conf, with this server's addresses, makes"
        return Finding("warning", WHERE, what, fix)
    return Finding("ok", WHERE, "is loaded as zfsiscsi.conf makes it")


def read(answer: Answer) -> Tables:
    """Return what is in our tables, without what changes by itself."""
    try:
        entries = json.loads(answer.out)["nftables"]
    except (ValueError, KeyError, TypeError):
        return {}
    tables: Tables = {}
    for entry in entries:
        for kind, what in entry.items():
            name = what["name"] if kind == "table" else what.get("table")
            table = f"{what.get('family')} {name}"
            if table in TABLES:
                tables.setdefault(table, []).append(_write(kind, what))
    return tables


def _write(kind: str, what: dict[str, Any]) -> str:
    what = {key: value for key, value in what.items() if key != "handle"}
    if "size" in what:  # filled by packets
        what.pop("elem", None)
    if "elem" in what:
        what["elem"] = sorted(json.dumps(one) for one in what["elem"])
    return f"{kind} {json.dumps(what, sort_keys=True)}"
