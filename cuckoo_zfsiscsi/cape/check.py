"""Finds every mismatch between CAPE's view of the hosts and the service's, and says the fix."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi import __version__
from cuckoo_zfsiscsi.cape.here import Here, look
from cuckoo_zfsiscsi.cape.install import SHIM, general
from cuckoo_zfsiscsi.cape.network import check_network
from cuckoo_zfsiscsi.cape.resultserver import check_result_server, complete
from cuckoo_zfsiscsi.cape.routes import check_routes
from cuckoo_zfsiscsi.cape.settings import wishes
from cuckoo_zfsiscsi.cape.tree import CapeTree
from cuckoo_zfsiscsi.cape.values import words
from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.doctor.system import System
from cuckoo_zfsiscsi.environment import for_python

TIMEOUT = 30.0
"""Seconds for one program."""
OURS = (
    "label", "platform", "ip", "arch", "tags", "snapshot", "reserved", "interface",
    "resultserver_ip", "resultserver_port",
)  # fmt: skip
"""Keys of a host whose values must be the same on both sides."""


def check(
    tree: CapeTree, view: dict[str, Any], python: Path | None, system: System
) -> Iterator[Finding]:
    """Compare.

    Args:
        tree: CAPE.
        view: what the service says of its hosts, see service.cape_view.
        python: CAPE's interpreter; None when it is not known.
        system: CAPE's server.

    Raises:
        ConfigError: a file of CAPE can't be read, or this server's addresses can't.
    """
    here = look(system)
    view = complete(tree, view, here)
    fix = f"zfsiscsi cape install --cape-root {tree.root}"
    yield _check_shim(tree, fix)
    yield _check_python(python, fix)
    yield from _check_hosts(tree, view, fix)
    yield from _check_interfaces(view, here)
    found = list(wishes(tree, view, here))
    for wish in found:
        one = wish.change
        now = tree.get(wish.name, one.section, one.key)
        where = f"{wish.name}.conf [{one.section}] {one.key} = {now}".rstrip(" =")
        yield Finding("error", where, wish.why, f"{one.key} = {one.new} ({fix} --apply)")
    if not found:
        yield Finding("ok", "CAPE's other files", "suit the service")
    yield from check_result_server(tree, view, here)
    yield from check_routes(tree, here)
    yield from check_network(tree, view, here, system)
    yield from _check_readable(tree)
    yield from _check_token(tree)


def _check_shim(tree: CapeTree, fix: str) -> Finding:
    where = str(tree.shim)
    if not tree.shim.is_file():
        return Finding("error", where, "is missing: CAPE can't load the machinery", fix)
    if tree.shim.read_text(errors="replace") != SHIM.read_text():
        return Finding("error", where, "is not the one of this version", fix)
    return Finding("ok", where, "is in place")


def _check_python(python: Path | None, install: str) -> Finding:
    if python is None:
        what = "CAPE's interpreter is not known: not looked whether it has this package"
        return Finding("warning", "CAPE's Python", what, "name it: --cape-python FILE")
    program = "import requests, cuckoo_zfsiscsi; print(cuckoo_zfsiscsi.__version__)"
    fix = f"{install} --cape-python {python}"
    try:
        done = subprocess.run(
            [str(python), "-c", program],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
            cwd="/",
            env=for_python(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(
            "error", str(python), f"does not run: {error}", "name another: --cape-python"
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        return Finding("error", str(python), f"can't load this package: {last}", fix)
    version = done.stdout.strip()
    if version != __version__:
        return Finding("error", str(python), f"has version {version}, not {__version__}", fix)
    return Finding("ok", str(python), f"has cuckoo-zfsiscsi {version}")


def _check_hosts(tree: CapeTree, view: dict[str, Any], fix: str) -> Iterator[Finding]:
    sections = tree.read("zfsiscsi")
    own = sections.get("zfsiscsi", {})
    listed = words(own.get("machines"))
    theirs = {host["label"]: host for host in view["hosts"]}
    for key, value in general(view).items():
        if _plain(own.get(key)) != _plain(value):
            what = f"CAPE has {own.get(key) or 'nothing'}, the service {value}"
            yield Finding("error", f"zfsiscsi.conf [zfsiscsi] {key}", what, fix)
    if len(files := tree.files("zfsiscsi")) > 1:
        names = ", ".join(map(str, files))
        what = f"CAPE reads {len(files)} files and mixes them: {names}"
        yield Finding("warning", "zfsiscsi.conf", what, f"keep {tree.conf} alone")
    for name in listed:
        if name not in theirs:
            what = "CAPE has this host, the service has not"
            yield Finding("error", f"zfsiscsi.conf machines: {name}", what, fix)
    for label, host in theirs.items():
        if label not in listed:
            what = "the service has this host, CAPE has not"
            yield Finding("error", f"zfsiscsi.conf machines: {label}", what, fix)
            continue
        seen = sections.get(label, {})
        unlike = [key for key in OURS if _plain(seen.get(key)) != _plain(host.get(key))]
        for key in unlike:
            what = (
                f"CAPE has {seen.get(key) or 'nothing'}, the service {host.get(key) or 'nothing'}"
            )
            yield Finding("error", f"zfsiscsi.conf [{label}] {key}", what, fix)
        if not unlike:
            yield Finding("ok", f"zfsiscsi.conf [{label}]", "is the same for CAPE and the service")


def _plain(text: str | None) -> str:
    return "" if text in (None, "no") else text.replace(" ", "")


def _check_interfaces(view: dict[str, Any], here: Here) -> Iterator[Finding]:
    """Look whether CAPE can record where it is told to."""
    networks = {label: network for network in view["networks"] for label in network["hosts"]}
    for host in view["hosts"]:
        name = host.get("interface", view["interface"])
        if name in here.addresses:
            continue
        own = here.interface_in(networks[host["label"]]["network"]) or "IFACE"
        section = host["label"] if "interface" in host else "zfsiscsi"
        fix = f"interface = {own} in [{section}] of the service's zfsiscsi.conf"
        what = "CAPE's server has no such interface: nothing is captured"
        yield Finding("error", f"[{host['label']}] interface = {name}", what, fix)


def _check_readable(tree: CapeTree) -> Iterator[Finding]:
    """Look whether CAPE's user, who owns its folder, can read what install wrote."""
    owner = tree.root.stat()
    for path in (tree.shim, tree.conf):
        if not path.is_file():
            continue
        status = path.stat()
        as_owner = status.st_uid == owner.st_uid and status.st_mode & stat.S_IRUSR
        as_group = status.st_gid == owner.st_gid and status.st_mode & stat.S_IRGRP
        if not (as_owner or as_group or status.st_mode & stat.S_IROTH):
            fix = f"chown --reference {tree.root} {path}"
            yield Finding("error", str(path), "CAPE's user can't read it", fix)


def _check_token(tree: CapeTree) -> Iterator[Finding]:
    name = tree.get("zfsiscsi", "zfsiscsi", "token_file")
    if not name:
        return
    owner = tree.root.stat().st_uid
    where = f"zfsiscsi.conf token_file = {name}"
    try:
        status = Path(name).stat()
    except OSError as error:
        yield Finding("error", where, f"{error.strerror}", "copy it from the storage server")
        return
    if status.st_uid != owner or not status.st_mode & stat.S_IRUSR:
        what = "CAPE's user can't read it: it does not own it"
        yield Finding("error", where, what, f"chown --reference {tree.root} {name}")
    elif status.st_mode & 0o077:
        yield Finding("error", where, "others can read it", f"chmod 600 {name}")
    else:
        yield Finding("ok", where, "is CAPE's user's alone")
