"""zfsiscsi image edit: a host boots an image's next version, for people to change it."""

from __future__ import annotations

from typing import Annotated

import typer

from cuckoo_zfsiscsi.cli.hosts import Host, make_client
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stdout
from cuckoo_zfsiscsi.config import load


def edit_image(
    ctx: typer.Context,
    host: Host,
    image: Annotated[str, typer.Argument(metavar="NAME", help="Of the image.")],
    installer: Annotated[
        str | None,
        typer.Option(help="URL of an iPXE script that goes on while the disk does not boot."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Boot a host from an image's next version, to install and change things.

    The host goes into maintenance, and keeps what is written: no reset until you say so. When you
    are done: shut the system down, zfsiscsi maintenance HOST off, zfsiscsi image seal NAME.
    """
    found = make_client(load(conf_path(ctx))).edit(host, image, installer)
    if as_json:
        print_json(found)
        return
    stdout.print(f"{host} is taken into maintenance and boots the next version of {image}.")
    stdout.print("When everything is installed, shut its system down, then:")
    stdout.print(f"  zfsiscsi maintenance {host} off")
    stdout.print(f"  zfsiscsi image seal {image}")
