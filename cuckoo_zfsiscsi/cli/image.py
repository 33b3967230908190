"""zfsiscsi image import, list, seal, rollback, delete. Works beside a running service."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table

from cuckoo_zfsiscsi.cli.edit import edit_image
from cuckoo_zfsiscsi.cli.install import install_image
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stdout
from cuckoo_zfsiscsi.cli.progress import show_bar
from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.drivers import make_store
from cuckoo_zfsiscsi.disk.store import Image, Store
from cuckoo_zfsiscsi.errors import ImageError

TIMEOUT = 24 * 3600.0
"""Seconds that the biggest import may take; Ctrl-C ends it at any time."""

Ref = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The newest if left out.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        help="Golden images: import, install, list, edit, seal, rollback, delete.",
        no_args_is_help=True,
    )
    app.add_typer(group, name="image")
    group.command("import")(import_image)
    group.command("list")(list_images)
    group.command("edit")(edit_image)
    group.command("install")(install_image)
    group.command("seal")(seal_image)
    group.command("rollback")(rollback_image)
    group.command("delete")(delete_image)


def import_image(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Of the image: letters, digits, '.', '_', '-'.")],
    file: Annotated[Path, typer.Argument(help="Disk file: raw, qcow2, vhdx or vmdk.")],
    seal: Annotated[bool, typer.Option(help="Make it read-only, and ready for use.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Make the next version of an image from a disk file, and seal it."""
    store = _store(ctx)
    with show_bar(f"import {file.name}", as_json) as progress:
        image = store.import_image(name, file, deadline=Deadline(TIMEOUT), progress=progress)
    if seal:
        image = _seal(store, image.ref, as_json)
    _show(store, image, as_json)


def list_images(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show every version of every image, and which hosts use it. * is what a name stands for."""
    store = _store(ctx)
    found = [_record(store, image) for image in store.images()]
    if as_json:
        print_json(found)
        return
    table = Table("image", "size", "takes", "sealed", "imported", "used by")
    for image in found:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(image["created"]))
        sealed = image["digest"][:12] if image["sealed"] else "no"
        users = ", ".join(image["users"]) or "-"
        ref = image["ref"] + (" *" if image["stands"] else "")
        takes = decimal(image["used"])
        table.add_row(ref, decimal(image["size"]), takes, sealed, day, users)
    stdout.print(table if found else "no images; make one: zfsiscsi image import NAME FILE")


def seal_image(ctx: typer.Context, image: Ref, as_json: JsonOption = False) -> None:
    """Make an image read-only for good, and put its digest on record."""
    store = _store(ctx)
    _show(store, _seal(store, image, as_json), as_json)


def delete_image(
    ctx: typer.Context,
    image: Annotated[str, typer.Argument(metavar="NAME@VERSION")],
    as_json: JsonOption = False,
) -> None:
    """Delete one version of an image that no host uses."""
    _store(ctx).delete_image(image)
    if as_json:
        print_json({"deleted": image})
    else:
        stdout.print(f"{image} is deleted")


def rollback_image(
    ctx: typer.Context,
    image: Annotated[str, typer.Argument(metavar="NAME@VERSION")],
    as_json: JsonOption = False,
) -> None:
    """Let the image's name stand for an earlier version, until a newer one is sealed.

    Hosts move to it at their next reset.
    """
    store = _store(ctx)
    _show(store, store.rollback_image(image), as_json)


def _store(ctx: typer.Context) -> Store:
    return make_store(load(conf_path(ctx)))


def _seal(store: Store, ref: str, as_json: bool) -> Image:
    with show_bar(f"seal {ref}", as_json) as progress:
        return store.seal(ref, deadline=Deadline(TIMEOUT), progress=progress)


def _record(store: Store, image: Image) -> dict[str, Any]:
    users, stands = store.users(image.ref), image.ref == _wanted(store, image.name)
    return {**asdict(image), "ref": image.ref, "users": users, "stands": stands}


def _wanted(store: Store, name: str) -> str:
    """Return the version that an image's name stands for; "" for none."""
    try:
        return store.find_image(name).ref
    except ImageError:
        return ""


def _show(store: Store, image: Image, as_json: bool) -> None:
    if as_json:
        print_json(_record(store, image))
    else:
        how = f"sealed, digest {image.digest}" if image.sealed else "not sealed"
        stdout.print(f"{image.ref}: {decimal(image.size)}, {how}")
