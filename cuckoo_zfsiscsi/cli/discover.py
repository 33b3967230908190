"""zfsiscsi discover: look for power devices on a range of addresses."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cuckoo_zfsiscsi.cli.output import JsonOption, print_json, stdout
from cuckoo_zfsiscsi.deadline import Cancel, Deadline


def discover(
    network: Annotated[str, typer.Argument(help="Range, like 10.98.0.0/24.")],
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for all of it.")] = 300.0,
    as_json: JsonOption = False,
) -> None:
    """Ask a range of addresses for BMCs (IPMI, Redfish, AMT). Nothing secret is sent."""
    from cuckoo_zfsiscsi.power import discover as search  # loads what Redfish needs

    cancel = Cancel()
    found = []
    try:
        for device in search.discover(network, deadline=Deadline(timeout, cancel)):
            found.append(device)
            if not as_json:
                stdout.print(f"{device.address:15} {device.what}")
                stdout.print(f"{'':15} power = {device.url}")
    except KeyboardInterrupt:
        cancel.set("interrupted")
        raise
    if as_json:
        print_json([asdict(device) for device in found])
    elif not found:
        stdout.print(f"nothing answers on {network}")


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command()(discover)
