"""zfsiscsi image install: a host installs Windows onto an image's next version, over iSCSI."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from cuckoo_zfsiscsi.cli.hosts import Host, make_client
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stdout
from cuckoo_zfsiscsi.cli.progress import show_bar
from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.drivers import make_store
from cuckoo_zfsiscsi.disk.store import Image, Store
from cuckoo_zfsiscsi.errors import ImageError
from cuckoo_zfsiscsi.progress import silent

TIMEOUT = 3600.0
"""Seconds that reading the medium may take, from a slow share; Ctrl-C ends it at any time."""
SIZE = re.compile(r"([1-9][0-9]{0,4})([GT])")
UNITS = {"G": 1 << 30, "T": 1 << 40}


def install_image(
    ctx: typer.Context,
    host: Host,
    image: Annotated[str, typer.Argument(metavar="NAME", help="Of the image.")],
    iso: Annotated[Path, typer.Option(help="Windows' installation medium: an .iso file.")],
    size: Annotated[
        str, typer.Option(metavar="SIZE", help="Of the new disk, like 64G; it takes what is used.")
    ] = "64G",
    share: Annotated[
        str | None,
        typer.Option(
            metavar="//SERVER/NAME", help="SMB share with the medium's content, which setup needs."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Install Windows: a host boots the medium's Windows PE, with an empty disk attached by iSCSI.

    On the storage server. The host goes into maintenance, and keeps what is written. When Windows
    is up and prepared: shut it down, zfsiscsi maintenance HOST off, zfsiscsi image seal NAME.
    """
    from cuckoo_zfsiscsi.netboot.medium import prepare  # loads what templates need

    config = load(conf_path(ctx))
    client, store = make_client(config), make_store(config)
    client.host(host)
    wanted = _parse_size(size)
    unc = share and share.replace("/", "\\")
    with show_bar(f"read {iso.name}", as_json) as progress:
        medium = prepare(
            config, config.host(host), iso, unc, deadline=Deadline(TIMEOUT), progress=progress
        )
    made: Image | None = None
    try:
        draft = _find_draft(store, image)
        if draft is None:
            draft = made = _make_empty(store, image, wanted)
        found = client.edit(host, image, medium=medium.folder.name)
    except BaseException:
        medium.remove()
        if made:
            store.delete_image(made.ref)
        raise
    if as_json:
        print_json(found)
        return
    if made is None:
        stdout.print(f"{draft.ref} is not sealed yet: it is installed onto that, as it is.")
    stdout.print(f"{host} is taken into maintenance and boots Windows' installer for {draft.ref}.")
    if share is None:
        stdout.print("Setup needs the medium's files: the window on its screen says how.")
    stdout.print("Each reboot tries the disk first. When Windows is prepared, shut it down, then:")
    stdout.print(f"  zfsiscsi maintenance {host} off")
    stdout.print(f"  zfsiscsi image seal {image}")


def _parse_size(text: str) -> int:
    """Return bytes.

    Raises:
        ImageError: it is no size.
    """
    if not (match := SIZE.fullmatch(text.upper().removesuffix("B").removesuffix("I"))):
        raise ImageError(f"{text!r} is no disk's size", fix="--size 64G, or 1T")
    return int(match[1]) * UNITS[match[2]]


def _find_draft(store: Store, name: str) -> Image | None:
    """Return the image's version that is not sealed, if there is one."""
    found = [image for image in store.images() if image.name == name and not image.sealed]
    return found[-1] if found else None


def _make_empty(store: Store, name: str, size: int) -> Image:
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(size)
        source = Path(file.name)
        return store.import_image(name, source, deadline=Deadline(TIMEOUT), progress=silent)
