"""Which keys of CAPE's own files must have other values, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cuckoo_zfsiscsi.cape.here import Here
from cuckoo_zfsiscsi.cape.resultserver import ANY, choose_ip, choose_port
from cuckoo_zfsiscsi.cape.tree import CapeTree, Change
from cuckoo_zfsiscsi.cape.values import is_on, number, words

MARGIN = 25.0
"""Seconds of CAPE's patience that start() and stop() may take beyond their timeouts."""


@dataclass(frozen=True)
class Wish:
    """One key that must be changed."""

    name: str
    """Of the configuration: cuckoo, auxiliary, ..."""
    change: Change
    why: str


def wishes(tree: CapeTree, view: dict[str, Any], here: Here) -> Iterator[Wish]:
    """Find the keys that do not suit the service.

    Args:
        tree: CAPE.
        view: what the service says of its hosts, see service.cape_view.
        here: CAPE's server.

    Raises:
        ConfigError: a file of CAPE can't be read.
    """
    for name, section, key, value, why in (
        *_machinery(tree, view),
        *_result_server(tree, view, here),
        *_capture(tree, view),
        *_others(tree, view),
    ):
        change = tree.change(name, section, key, value)
        if change:
            yield Wish(name, change, why)


_Wanted = tuple[str, str, str, str, str]


def _machinery(tree: CapeTree, view: dict[str, Any]) -> Iterator[_Wanted]:
    hosts = len(view["hosts"])
    cuckoo = tree.read("cuckoo")
    own = cuckoo.get("cuckoo", {})
    if tree.is_multi:
        listed = words(tree.get("multi", "multi", "machinery"))
        if "zfsiscsi" not in listed:
            value = ",".join([*listed, "zfsiscsi"])
            yield "multi", "multi", "machinery", value, "CAPE drives the hosts by this machinery"
        if is_on(own.get("fail_unserviceable")):
            why = (
                "multi deletes the row of a host until it has healed: its tasks would fail at once"
            )
            yield "cuckoo", "cuckoo", "fail_unserviceable", "no", why
    else:
        yield "cuckoo", "cuckoo", "machinery", "zfsiscsi", "CAPE drives the hosts by this machinery"
    if number(own.get("max_vmstartup_count")) < hosts:
        why = "while one host boots the others would wait for their start"
        yield "cuckoo", "cuckoo", "max_vmstartup_count", str(hosts), why
    if 0 < number(own.get("max_machines_count")) < hosts:
        why = "CAPE would never use all hosts at the same time"
        yield "cuckoo", "cuckoo", "max_machines_count", str(hosts), why
    for key, why in (
        ("machinery_screenshots", "CAPE does not start: a physical host has no screen to read"),
        ("scaling_semaphore", "it is for machineries that make machines"),
        ("memory_dump", "the machinery makes none: CAPE would log an error in each run"),
    ):
        if is_on(own.get(key)):
            yield "cuckoo", "cuckoo", key, "no", why
    timeouts = cuckoo.get("timeouts", {})
    stuck = number(timeouts.get("stuck_seconds", "100"))
    need = math.ceil(view["start_timeout"] + view["stop_timeout"] + MARGIN)
    if number(timeouts.get("vm_state", "100")) + stuck < need:
        why = f"vm_state + stuck_seconds must hold start_timeout + stop_timeout + {MARGIN:.0f} s"
        yield "cuckoo", "timeouts", "vm_state", str(max(1, need - int(stuck))), why


def _result_server(tree: CapeTree, view: dict[str, Any], here: Here) -> Iterator[_Wanted]:
    ip, port = choose_ip(tree, view, here), choose_port(tree, view)
    why = "CAPE's result server must be in the hosts' network"
    if ip == ANY:
        why = "the hosts are in several networks, and CAPE's result server must be in each"
    yield "cuckoo", "resultserver", "ip", ip, why
    why = "the service lets the hosts reach CAPE's result server at this port alone"
    yield "cuckoo", "resultserver", "port", port, why


def _capture(tree: CapeTree, view: dict[str, Any]) -> Iterator[_Wanted]:
    bpf = tree.get("auxiliary", "sniffer", "bpf")
    disks = [
        f"not (host {net['portal']} and tcp portrange {min(net['ports'])}-{max(net['ports'])})"
        for net in view["networks"]
        if net["ports"]
    ]
    if missing := [disk for disk in disks if disk not in bpf]:
        value = " and ".join([*filter(None, [bpf]), *missing])
        why = "the capture of each run would be full of its disk's traffic"
        yield "auxiliary", "sniffer", "bpf", value, why
    why = "nothing is captured, and the reports have no part network"
    if not is_on(tree.get("auxiliary", "sniffer", "enabled")):
        yield "auxiliary", "sniffer", "enabled", "yes", why
    if not is_on(tree.get("routing", "routing", "enable_pcap")):
        yield "routing", "routing", "enable_pcap", "yes", f"in runs with route = none {why}"


def _others(tree: CapeTree, view: dict[str, Any]) -> Iterator[_Wanted]:
    linux = any(host["platform"] == "linux" for host in view["hosts"])
    if linux and not is_on(tree.get("web", "linux", "enabled")):
        why = "the web form and REST refuse samples for Linux hosts"
        yield "web", "linux", "enabled", "yes", why
    if is_on(tree.get("processing", "memory", "enabled")):
        why = "there is no memory dump to process: the machinery makes none"
        yield "processing", "memory", "enabled", "no", why
