"""zfsiscsi evidence list, delete: dirty disks that were kept. Works beside a running service."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.table import Table

from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stdout
from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.drivers import make_store
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.errors import ConfigError

TIMEOUT = 60.0
"""Seconds for the list, and for each one that is deleted."""


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Dirty disks of past runs that were kept.", no_args_is_help=True)
    app.add_typer(group, name="evidence")
    group.command("list")(list_evidence)
    group.command("delete")(delete_evidence)


def list_evidence(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Argument(help="One host; all of them if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is kept, the oldest first: that is dropped first when the rules say so."""
    found = _store(ctx).evidence.all(deadline=Deadline(TIMEOUT))
    wanted = [one for one in found if host in (None, one.host)]
    if as_json:
        print_json([{**asdict(one), "device": f"/dev/zvol/{one.dataset}"} for one in wanted])
        return
    table = Table("evidence", "host", "generation", "image", "kept", "changed", "takes", "device")
    for one in wanted:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.kept))
        sizes = (decimal(one.changed), decimal(one.used))
        device = f"/dev/zvol/{one.dataset}"
        generation = str(one.generation)
        table.add_row(one.name, one.host, generation, one.image, day, *sizes, device)
    stdout.print(table if wanted else "no evidence; evidence = N in a host's section keeps some")


def delete_evidence(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(help="As in the list: HOST-gGENERATION.")],
    as_json: JsonOption = False,
) -> None:
    """Delete evidence for good."""
    evidence = _store(ctx).evidence
    for one in [evidence.find(name, deadline=Deadline(TIMEOUT)) for name in names]:
        evidence.drop(one, deadline=Deadline(TIMEOUT))
        if not as_json:
            stdout.print(f"{one.name} is deleted")
    if as_json:
        print_json({"deleted": names})


def _store(ctx: typer.Context) -> ZfsStore:
    config = load(conf_path(ctx))
    store = make_store(config)
    if not isinstance(store, ZfsStore):
        raise ConfigError(
            f"{config.path} uses store = {config.storage.store}, which keeps no evidence",
            fix="store = zfs in [storage]",
        )
    return store
