"""zfsiscsi runs: which task had which host and disk."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.table import Table

from cuckoo_zfsiscsi.cli.hosts import make_client
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stdout
from cuckoo_zfsiscsi.config import load


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def runs(
        ctx: typer.Context,
        task: Annotated[str | None, typer.Option(help="Of this task of CAPE's alone.")] = None,
        host: Annotated[str | None, typer.Option(help="Of this host alone.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=10000, help="How many.")] = 50,
        as_json: JsonOption = False,
    ) -> None:
        """Show past runs, the newest first, and what their evidence is called if it was kept.

        Below them: what was seen of a host in a run that may explain an empty report.
        """
        found = make_client(load(conf_path(ctx))).runs(task=task, host=host, limit=limit)
        if as_json:
            print_json(found)
            return
        table = Table("task", "host", "began", "took", "image", "evidence")
        for run in found:
            began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run["began"]))
            took = f"{run['ended'] - run['began']:.0f} s" if run["ended"] else "-"
            row = (run["task"] or "-", run["host"], began, took, run["image"], run["evidence"])
            table.add_row(*row)
        stdout.print(table if found else "no run is on record")
        for run in found:
            for what in run["seen"]:
                stdout.print(f"{run['evidence']}: {what}")
