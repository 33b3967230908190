"""zfsiscsi image import, list, seal, delete: the golden images. Works beside a running service."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stderr, stdout
from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.drivers import make_store
from cuckoo_zfsiscsi.disk.store import Image
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.progress import Progress, silent

TIMEOUT = 24 * 3600.0
"""Seconds that the biggest import may take; Ctrl-C ends it at any time."""

Ref = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The newest if left out.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Golden images: import, list, seal, delete.", no_args_is_help=True)
    app.add_typer(group, name="image")
    group.command("import")(import_image)
    group.command("list")(list_images)
    group.command("seal")(seal_image)
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
    with _bar(f"import {file.name}", as_json) as progress:
        image = store.import_image(name, file, deadline=Deadline(TIMEOUT), progress=progress)
    if seal:
        image = _seal(store, image.ref, as_json)
    _show(store, image, as_json)


def list_images(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show every version of every image, and which hosts use it."""
    store = _store(ctx)
    found = [_record(store, image) for image in store.images()]
    if as_json:
        print_json(found)
        return
    table = Table("image", "size", "sealed", "imported", "used by")
    for image in found:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(image["created"]))
        sealed = image["digest"][:12] if image["sealed"] else "no"
        users = ", ".join(image["users"]) or "-"
        table.add_row(image["ref"], decimal(image["size"]), sealed, day, users)
    stdout.print(table if found else "no images; make one: zfsiscsi image import NAME FILE")


def seal_image(ctx: typer.Context, image: Ref, as_json: JsonOption = False) -> None:
    """Make an image read-only for good, and put its SHA-256 on record."""
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


def _store(ctx: typer.Context) -> FileStore:
    return make_store(load(conf_path(ctx)))


def _seal(store: FileStore, ref: str, as_json: bool) -> Image:
    with _bar(f"seal {ref}", as_json) as progress:
        return store.seal(ref, deadline=Deadline(TIMEOUT), progress=progress)


def _record(store: FileStore, image: Image) -> dict[str, Any]:
    return {**asdict(image), "ref": image.ref, "users": store.users(image.ref)}


def _show(store: FileStore, image: Image, as_json: bool) -> None:
    if as_json:
        print_json(_record(store, image))
    else:
        how = f"sealed, SHA-256 {image.digest}" if image.sealed else "not sealed"
        stdout.print(f"{image.ref}: {decimal(image.size)}, {how}")


@contextlib.contextmanager
def _bar(what: str, as_json: bool) -> Iterator[Progress]:
    """Show a bar while something long runs."""
    if as_json:
        yield silent
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Bar(*columns, TimeRemainingColumn(), console=stderr) as bar:
        task = bar.add_task(what, total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield progress
