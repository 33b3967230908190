"""zfsiscsi cape install, check, uninstall: the machinery in a CAPE tree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cuckoo_zfsiscsi.cape import check as checks
from cuckoo_zfsiscsi.cape import install as files
from cuckoo_zfsiscsi.cape import plugin
from cuckoo_zfsiscsi.cape.client import Client
from cuckoo_zfsiscsi.cape.here import look
from cuckoo_zfsiscsi.cape.resultserver import check_result_server, complete
from cuckoo_zfsiscsi.cape.settings import wishes
from cuckoo_zfsiscsi.cape.tree import CapeTree, diff
from cuckoo_zfsiscsi.cli.findings import show
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, stdout
from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.doctor.system import System

Root = Annotated[Path, typer.Option("--cape-root", help="CAPE's folder, such as /opt/CAPEv2.")]
Extra = Annotated[
    Path | None, typer.Option("--cape-conf", envvar="CAPE_CD", help="What CAPE has as $CAPE_CD.")
]
Service = Annotated[
    str | None, typer.Option(help="URL of the service; that of zfsiscsi.conf if left out.")
]
Token = Annotated[
    Path | None, typer.Option(help="Token file, on CAPE's server; that of zfsiscsi.conf.")
]
CaFile = Annotated[
    Path | None,
    typer.Option(help="Certificates to trust, on CAPE's server; that of zfsiscsi.conf."),
]
Python = Annotated[Path | None, typer.Option(help="CAPE's interpreter; its .venv's if left out.")]
Apply = Annotated[bool, typer.Option("--apply", help="Do it: change CAPE's own files.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="The machinery in a CAPE tree.", no_args_is_help=True)
    app.add_typer(group, name="cape")
    group.command("install")(install)
    group.command("check")(check)
    group.command("uninstall")(uninstall)


def install(
    ctx: typer.Context,
    cape_root: Root,
    cape_conf: Extra = None,
    service: Service = None,
    token_file: Token = None,
    ca_file: CaFile = None,
    cape_python: Python = None,
    apply: Apply = False,
) -> None:
    """Put plugin, shim and hosts into CAPE; show which of its keys must change. Run it as root."""
    tree = CapeTree(cape_root, cape_conf)
    asked = _ask(ctx, service, token_file, ca_file)
    here = look(System())
    view = complete(tree, asked.view, here)
    python = plugin.find_python(cape_root, cape_python)
    if python is None:
        found = plugin.how_to_find(cape_root)
        what = f"CAPE's interpreter is not known, so it gets no plugin. Name it: {found}"
        stdout.print(what)
    elif plugin.install(python, asked.client):
        stdout.print(f"installed: {plugin.WHEEL} for {python}")
    conf = files.render(view, asked.service, asked.token_file, asked.ca_file)
    for path in files.install(tree, conf):
        stdout.print(f"written: {path}")
    wanted = list(wishes(tree, view, here))
    changes = [wish.change for wish in wanted]
    for line in diff(changes):
        stdout.print(line)
    for wish in wanted:
        stdout.print(f"{wish.change.key}: {wish.why}")
    if changes and apply:
        files.change(tree, changes)
        stdout.print(f"{len(changes)} keys changed; restart CAPE")
    elif changes:
        stdout.print("nothing of this is changed yet: --apply does it")
    else:
        stdout.print("CAPE's own files suit the service; restart CAPE")
    for finding in check_result_server(tree, view, here):
        if finding.level == "error":  # no key of CAPE's mends it
            stdout.print(str(finding))


def check(
    ctx: typer.Context,
    cape_root: Root,
    cape_conf: Extra = None,
    cape_python: Python = None,
    service: Service = None,
    token_file: Token = None,
    ca_file: CaFile = None,
    as_json: JsonOption = False,
) -> None:
    """Find every mismatch between CAPE and the service, and say the fix. Ends with 1 if any."""
    tree = CapeTree(cape_root, cape_conf)
    python = plugin.find_python(cape_root, cape_python)
    asked = _ask(ctx, service, token_file, ca_file)
    found = checks.check(tree, asked.view, python, System())
    show(cape_root, found, as_json=as_json)


def uninstall(
    cape_root: Root, cape_conf: Extra = None, cape_python: Python = None, apply: Apply = False
) -> None:
    """Take plugin, shim and hosts out of CAPE, and set the keys back that install changed."""
    tree = CapeTree(cape_root, cape_conf)
    changes = files.undo(tree)
    for line in diff(changes):
        stdout.print(line)
    python = plugin.find_python(cape_root, cape_python)
    if apply:
        for path in files.uninstall(tree):
            stdout.print(f"removed: {path}")
        if python and plugin.uninstall(python):  # last: what CAPE loads needs it
            stdout.print(f"removed: {plugin.NAME} for {python}")
        stdout.print(f"{len(changes)} keys set back; restart CAPE")
        return
    files.refuse_if_needed(tree, changes)
    ours = [str(path) for path in files.remains(tree)]
    if python and plugin.is_installed(python):
        ours.append(f"{plugin.NAME} for {python}")
    for what in ours:
        stdout.print(f"to be removed: {what}")
    if changes or ours:
        stdout.print("nothing of this is done yet: --apply does it")
    else:
        stdout.print("nothing of ours is there")


@dataclass(frozen=True)
class _Asked:
    """What the service said, and how it was reached."""

    service: str
    token_file: str | None
    ca_file: str | None
    client: Client
    view: dict[str, Any]


def _ask(
    ctx: typer.Context, service: str | None, token_file: Path | None, ca_file: Path | None
) -> _Asked:
    if service is None:
        general = load(conf_path(ctx)).zfsiscsi
        service = general.service
        token_file = token_file or general.token_file
        ca_file = ca_file or general.ca_file
    token = str(token_file) if token_file else None
    trusted = str(ca_file.absolute()) if ca_file else None
    client = Client(service, token, ca_file=trusted)
    return _Asked(service, token, trusted, client, client.cape())
