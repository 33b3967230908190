"""zfsiscsi boots: how a host's boots went, stage by stage."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from cuckoo_zfsiscsi.cli.hosts import Host, make_client
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stdout, styled
from cuckoo_zfsiscsi.cli.timeline import REACHED, draw
from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def boots(
        ctx: typer.Context,
        host: Host,
        limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 10,
        svg: Annotated[
            Path | None,
            typer.Option(help="Draw them into this file: one bar for each boot.", dir_okay=False),
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Show a host's last boots: seconds from its first sign to each stage, the newest first.

        dhcp, tftp: the ROM got its address and the boot file; ipxe, script: iPXE its address and
        its script; login: the disk is attached; rpc, agent: the guest answers. A boot that stalled
        is shown with the stage that it missed, and what is likely wrong; so is the last warning.
        """
        found = make_client(load(conf_path(ctx))).boots(host, limit=limit)
        if svg:
            try:
                svg.write_text(draw(host, found))
            except OSError as error:
                raise ConfigError(
                    f"{svg} can't be written: {error.strerror}", fix="--svg /tmp/boots.svg"
                ) from None
        if as_json:
            print_json(found)
            return
        if not found:
            stdout.print(f"no boot of {host} is on record")
            return
        stdout.print(_table(found))
        for trouble in ("stalled", "warning"):
            boot = next((boot for boot in found if boot[trouble]), None)
            if boot:
                stdout.print(f"{_when(boot)}: {boot[trouble]}")
        if svg:
            stdout.print(f"drawn: {svg}")


def _when(boot: dict[str, Any]) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(boot["started"]))


def _table(boots: list[dict[str, Any]]) -> Table:
    table = Table("boot", "gen.", *REACHED, "", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for boot in boots:
        stages: dict[str, float] = boot["stages"]
        cells = [f"{stages[stage]:.1f}" if stage in stages else "-" for stage in REACHED]
        end = styled("ready", "green") if boot["ready"] else styled("stalled", "red")
        table.add_row(_when(boot)[5:], str(boot["generation"]), *cells, end)
    return table
