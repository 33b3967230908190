"""What of a changed zfsiscsi.conf the service can take while it runs: what DHCP tells the hosts."""

from __future__ import annotations

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.errors import ServeError

ROUTE = ("gateway", "dns")
NETBOOT = ("dhcp", "tftp_root", "wimboot", *ROUTE)
HOST = ("boot_file", *ROUTE)
"""Keys whose new values are taken. All others hold disks, power or listeners that are in use."""


def check_change(old: Config, new: Config) -> list[str]:
    """Return what has changed, as words for the log; nothing if nothing has.

    Raises:
        ServeError: something that needs a new start of the service.
    """
    sections = [
        ("[zfsiscsi]", old.zfsiscsi, new.zfsiscsi, ()),
        ("[storage]", old.storage, new.storage, ()),
        ("[netboot]", old.netboot, new.netboot, NETBOOT),
    ]
    networks = {network.section: network for network in new.more_networks}
    if [network.section for network in old.more_networks] != list(networks):
        _refuse("which [network:...] there are")
    sections += [
        (f"[{was.section}]", was, networks[was.section], ROUTE) for was in old.more_networks
    ]
    before = {host.label: host for host in old.hosts}
    after = {host.label: host for host in new.hosts}
    if list(before) != list(after):
        _refuse(f"[zfsiscsi] machines = {','.join(after)}")
    sections += [(f"[{name}]", before[name], after[name], HOST) for name in before]
    found = []
    for name, was, now, keys in sections:
        for key in type(now).model_fields:
            value = getattr(now, key)
            if value == getattr(was, key):
                continue
            if key not in keys:
                _refuse(f"{name} {key}")
            found.append(f"{name} {key} = {_write(value)}")
    for name, host in after.items():
        is_same = new.default_route(host) == old.default_route(before[name])
        if host.network_via == "agent" and not is_same:
            _refuse(f"what {name}'s agent is told of gateway and dns")
    return found


def _write(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "off"
    return "(not set)" if value is None else str(value)


def _refuse(what: str) -> None:
    raise ServeError(
        f"{what} has changed, which a running service can't take",
        fix="at a quiet time, as hosts are cut: systemctl restart zfsiscsi",
    )
