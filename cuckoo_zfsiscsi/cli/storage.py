"""zfsiscsi storage init, show: the ZFS pool that images and disks are in."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table

from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stdout
from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.config.fields import parse_dataset
from cuckoo_zfsiscsi.config.wrong import WrongValueError
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.server import Server
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.store.zfs_open import on_record
from cuckoo_zfsiscsi.disk.store.zfs_setup import Setup
from cuckoo_zfsiscsi.errors import ConfigError

TIMEOUT = 120.0
"""Seconds. A pool that is busy writing answers late."""


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="The ZFS pool with images and disks.", no_args_is_help=True)
    app.add_typer(group, name="storage")
    group.command("init")(init_storage)
    group.command("show")(show_storage)


def init_storage(
    pool: Annotated[str, typer.Argument(help="ZFS pool, or dataset in one: tank, tank/lab.")],
    take: Annotated[
        bool, typer.Option("--take", help="Take it from a server that did not give it up.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a pool ready: datasets for images, disks and evidence. Changes nothing else in it.

    Can be run again at any time: it makes what is missing, and sets right what was changed.
    """
    store = _store(pool)
    changed = Setup(store.layout, store.zfs).init(take=take, deadline=Deadline(TIMEOUT))
    parent = store.layout.parent
    if as_json:
        print_json({"parent": parent, "changed": changed})
    else:
        stdout.print(f"{parent} is ready" if changed else f"{parent} was ready before")
        stdout.print(f"in zfsiscsi.conf: [storage] store = zfs, pool = {pool}, target = lio")


def show_storage(
    ctx: typer.Context,
    pool: Annotated[
        str | None, typer.Argument(help="As for init; that of zfsiscsi.conf if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how full the pool is, what is in it, and who has it open."""
    store = _store(pool or _configured(ctx))
    found = _found(store, Deadline(TIMEOUT))
    if as_json:
        print_json(found)
        return
    stdout.print(f"{found['parent']}: pool {found['health']}, ", end="")
    stdout.print(f"{decimal(found['free'])} of {decimal(found['total'])} free")
    stdout.print(f"open by {found['owner'] or 'nobody'}")
    table = Table("what", "how many", "takes")
    for what in ("images", "disks", "evidence"):
        table.add_row(what, str(found[what]), decimal(found[f"{what}_bytes"]))
    stdout.print(table)
    disks = Table("disk", "role", "generation", "image", "takes")
    for disk in found["clones"]:
        takes = decimal(disk["used"])
        disks.add_row(disk["name"], disk["role"], str(disk["generation"]), disk["image"], takes)
    stdout.print(disks)


def _configured(ctx: typer.Context) -> str:
    config = load(conf_path(ctx))
    if config.storage.store != "zfs" or config.storage.pool is None:
        raise ConfigError(
            f"{config.path} does not use ZFS", fix="zfsiscsi storage show POOL, or store = zfs"
        )
    return config.storage.pool


def _store(pool: str) -> ZfsStore:
    try:
        return ZfsStore(parse_dataset(pool))
    except WrongValueError as error:
        raise ConfigError(f"{pool!r} {error.reason}", fix="zpool list") from None


def _found(store: ZfsStore, deadline: Deadline) -> dict[str, Any]:
    owner = Server.parse(Setup(store.layout, store.zfs).owner(deadline=deadline))
    space = store.room.space(deadline=deadline)
    argv = ("zpool", "list", "-Ho", "health", store.layout.pool)
    images, evidence = store.images(), store.evidence.all(deadline=deadline)
    clones = on_record(store.layout, store.zfs, deadline)
    return {
        "parent": store.layout.parent,
        "health": store.zfs.command(*argv, deadline=deadline).strip(),
        "owner": owner.name if owner else "",
        "total": space.total,
        "free": space.free,
        "images": len(images),
        "images_bytes": sum(image.used for image in images),
        "disks": len(clones),
        "disks_bytes": sum(clone["used"] for clone in clones),
        "evidence": len(evidence),
        "evidence_bytes": sum(one.used for one in evidence),
        "clones": clones,
    }
