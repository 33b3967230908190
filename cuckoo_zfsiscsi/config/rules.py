"""What must hold between keys and between sections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

from cuckoo_zfsiscsi.config.mistakes import Mistake
from cuckoo_zfsiscsi.config.powerurl import PowerUrl
from cuckoo_zfsiscsi.config.section import Checked

_TLS_KEYS = {
    "certificate": "/etc/zfsiscsi/certificate.pem",
    "private_key": "/etc/zfsiscsi/private-key.pem",
}
"""What https needs on the server's side, and where it may be."""
_POWER_KEYS = ("power", "power_on", "power_off")


def check_together(fixed: Mapping[str, Checked], hosts: Mapping[str, Checked]) -> Iterator[Mistake]:
    """Check what is right by itself; wrong or missing values are left out."""
    yield from _check_token(fixed["zfsiscsi"])
    yield from _check_tls(fixed["zfsiscsi"])
    yield from _check_storage(fixed["storage"])
    for name, host in hosts.items():
        label = host.values.get("label")
        if label is not None and label != host.meant:
            reason = f"must be the same as its section's name, {host.meant}"
            if label in hosts:
                reason = f"is the label of another host, in section [{label}]"
            yield _mistake(name, host, "label", reason, f"label = {host.meant}")
        yield from _check_power(name, host)
        ready = host.values.get("ready")
        if host.values.get("network_via") == "agent" and ready and "agent" not in ready:
            reason = "needs an agent that answers before the host counts as ready"
            yield _mistake(name, host, "network_via", reason, "ready = rpc,agent")
        if host.values.get("reset_on") == "boot" and host.values.get("prewarm"):
            reason = "has no meaning with reset_on = boot: nobody but its user boots the host"
            yield _mistake(name, host, "prewarm", reason, "prewarm = no")
    for (one, a), (two, b) in combinations(hosts.items(), 2):
        for key in ("ip", "mac"):
            if key in a.values and a.values[key] == b.values.get(key):
                reason = f"is the {key} of {one} too"
                yield _mistake(two, b, key, reason, f"give {two} its own {key}")
        yield from _check_outlets(one, a, two, b)


def _check_token(general: Checked) -> Iterator[Mistake]:
    service = general.values.get("service")
    if service is None or service.startswith("unix:") or "token_file" in general.wrong:
        return
    if general.values.get("token_file") is None:
        reason = "must be set when the service listens on TCP"
        fix = "token_file = /etc/zfsiscsi/token; or service = unix:///run/zfsiscsi/api.sock"
        yield Mistake("zfsiscsi", "token_file", "", reason, fix)


def _check_tls(general: Checked) -> Iterator[Mistake]:
    """Check that nobody believes in an encryption that there is not."""
    service = general.values.get("service")
    if service is None:
        return
    if not service.startswith("https:"):
        for key in (*_TLS_KEYS, "ca_file"):
            if general.values.get(key):
                reason = f"has no meaning with service = {service}: only https is encrypted"
                fix = f"service = https://ADDRESS:PORT; or remove {key}"
                yield _mistake("zfsiscsi", general, key, reason, fix)
        return
    missing = [key for key in _TLS_KEYS if not general.values.get(key)]
    if missing and not general.wrong & set(_TLS_KEYS):
        reason = f"needs {' and '.join(missing)}, too"
        fix = "; ".join(f"{key} = {_TLS_KEYS[key]}" for key in missing)
        given = general.given["service"]
        yield Mistake("zfsiscsi", "service", given, reason, f"{fix}; or service = http://...")


def _check_storage(storage: Checked) -> Iterator[Mistake]:
    store, target = storage.values.get("store"), storage.values.get("target")
    pool = storage.values.get("pool")
    if store == "zfs" and pool is None and "pool" not in storage.wrong:
        yield Mistake("storage", "pool", "", "must be set with store = zfs", "pool = tank")
    goes_with = {"file": "tgt", "zfs": "lio"}.get(str(store), target)
    if target is not None and target != goes_with:
        reason = f"{target} can't export what store = {store} makes"
        given = storage.given.get("target", "")
        yield Mistake("storage", "target", given, reason, f"target = {goes_with}")


def _check_power(name: str, host: Checked) -> Iterator[Mistake]:
    """Check that a host can be switched both ways."""
    needed = {"power", "power_on", "power_off"}
    if needed & host.wrong or host.values.get("power"):
        return
    if host.values.get("reset_on") == "boot" and not needed & host.given.keys():
        return  # whoever wants a clean disk reboots it
    for key in ("power_on", "power_off"):
        if not host.values.get(key):
            reason = "must be set, as power is not"
            yield Mistake(name, "power", "", reason, "power = ipmi://admin@10.98.0.11")
            return


def _check_outlets(one: str, a: Checked, two: str, b: Checked) -> Iterator[Mistake]:
    for key in _POWER_KEYS:
        if any(url.same_outlet(other) for url in _urls(b, [key]) for other in _urls(a)):
            reason = f"switches the power of {one} too"
            fix = f"give {two} its own address, or tell the outlets of one device apart: ?outlet=2"
            yield _mistake(two, b, key, reason, fix)


def _urls(host: Checked, keys: Iterable[str] = _POWER_KEYS) -> list[PowerUrl]:
    return [url for key in keys for way in host.values.get(key) or () for url in way]


def _mistake(section: str, checked: Checked, key: str, reason: str, fix: str) -> Mistake:
    return Mistake(section, key, checked.given[key], reason, fix)
