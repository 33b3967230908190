"""Asks about each host: its image, its power device; and whether the service runs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed

from cuckoo_zfsiscsi.cape.client import Client, ServiceError
from cuckoo_zfsiscsi.check import Finding, Level, failed
from cuckoo_zfsiscsi.config import Config, HostConfig, PowerUrl
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.disk.store import Store
from cuckoo_zfsiscsi.errors import ZfsIscsiError
from cuckoo_zfsiscsi.power.connect import make_driver, make_power, make_witness
from cuckoo_zfsiscsi.power.limit import limiter_for
from cuckoo_zfsiscsi.power.proved import ProvedPower

POWER_TIMEOUT = 20.0
"""Seconds at most for one device to say whether it is on: some need more than 10."""
AT_ONCE = 32
"""Devices asked at the same time."""
SERVICE_TIMEOUT = 3.0
ISOLATION_FIX = {
    "not isolated": "a network for each host, or port isolation on the switch: docs/switch.rst",
    "not known": "zfsiscsi netboot isolation --network {network}",
}
"""By what is known of a network."""


def check_images(config: Config, store: Store) -> Iterator[Finding]:
    """Look for the sealed image of each host. The store need not be open."""
    for host in config.hosts:
        where = f"[{host.section}] snapshot = {host.snapshot}"
        try:
            image = store.find_image(host.snapshot)
        except ZfsIscsiError as error:
            yield failed(where, error, fix="zfsiscsi image list")
        else:
            yield Finding("ok", where, f"{image.ref} is sealed, {image.size / 1e9:.1f} GB")


def check_power(config: Config) -> Iterator[Finding]:
    """Ask every power device for its state, many at the same time; findings as they answer."""
    cancel = Cancel()
    every = [
        (host, key, url)
        for host in config.hosts
        for key in ("power", "power_on", "power_off")
        for way in getattr(host, key) or ()
        for url in way
    ]
    pool = ThreadPoolExecutor(min(AT_ONCE, len(every) or 1), thread_name_prefix="power")
    try:
        asked = [pool.submit(_ask_power, config, *one, cancel) for one in every]
        for answer in as_completed(asked):
            yield answer.result()
    finally:
        cancel.set("the check ends")  # also after Ctrl-C: nobody waits for slow devices
        pool.shutdown(cancel_futures=True)


def _ask_power(
    config: Config, host: HostConfig, key: str, url: PowerUrl, cancel: Cancel
) -> Finding:
    where = f"[{host.section}] {key} = {url}"
    seconds = min(host.power_timeout, POWER_TIMEOUT)
    try:
        make_power(host, make_witness(config, host))  # can it be switched at all?
        driver = make_driver(host, url)
        if not driver.can.tell:
            return Finding("ok", where, "can't be asked, only used")
        power = ProvedPower(driver, limiter_for(driver.peer), interval=host.power_interval)
        state = power.status(deadline=Deadline(seconds, cancel))
    except ZfsIscsiError as error:
        return failed(where, error, fix=f"zfsiscsi power {host.label} status")
    return Finding("ok", where, f"answers, {host.label} is {state.value}")


def check_service(config: Config) -> Iterator[Finding]:
    """Tell whether the service runs, which it need not, and what it knows of the networks."""
    general = config.zfsiscsi
    where = f"[zfsiscsi] service = {general.service}"
    token_file = str(general.token_file) if general.token_file else None
    client = Client(
        general.service,
        token_file,
        ca_file=str(general.ca_file) if general.ca_file else None,
        connect_timeout=SERVICE_TIMEOUT,
        read_timeout=SERVICE_TIMEOUT,
    )
    try:
        hosts, networks = client.hosts(), client.networks()
    except ServiceError as error:
        yield Finding("info", where, error.what, error.fix or "zfsiscsi serve")
        return
    yield Finding("info", where, f"runs, with {len(hosts)} host{'' if len(hosts) == 1 else 's'}")
    for net in networks:
        what = f"its hosts are {net['state']}: {net['why']}"
        fix = ISOLATION_FIX.get(net["state"], "").format(network=net["network"])
        level: Level = "warning" if fix else "ok"
        yield Finding(level, f"network {net['network']}", what, fix)
