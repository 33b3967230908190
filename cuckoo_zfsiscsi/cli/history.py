"""zfsiscsi history: every boot, reset, power action and failure on record."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from cuckoo_zfsiscsi.cli.hosts import make_client
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stdout, styled
from cuckoo_zfsiscsi.config import load

HostOption = Annotated[str | None, typer.Argument(help="One host; all of them if left out.")]
KindOption = Annotated[
    Literal["boot", "reset", "power", "failure", "healed"] | None,
    typer.Option(help="Of this kind alone."),
]


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def history(
        ctx: typer.Context,
        host: HostOption = None,
        kind: KindOption = None,
        limit: Annotated[int, typer.Option(min=1, max=10000, help="How many.")] = 50,
        as_json: JsonOption = False,
    ) -> None:
        """Show what happened to hosts, the newest first.

        Boots and how long they took, resets, power switched and what proved it, failures, and
        quarantines that ended. The newest 500,000 events are kept; a kill of the service loses
        none that was on record.
        """
        found = make_client(load(conf_path(ctx))).history(host=host, kind=kind, limit=limit)
        if as_json:
            print_json(found)
            return
        for event in found:
            stdout.print(_line(event))
        if not found:
            stdout.print("nothing is on record")


def _line(event: dict[str, Any]) -> Text:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"]))
    kind = styled(f"{event['kind']:8}", "" if event["ok"] else "red")
    took = "" if event["seconds"] is None else f"{event['seconds']:.2f} s"
    generation = f"g{event['generation']} " if event["generation"] else ""
    recovery = event["stages"].get("recovery")
    after = f", recovery {recovery:.1f} s" if recovery else ""
    what = f" {took:>9}  {generation}{event['what']}{after}"
    return styled(f"{when}  {event['host']:12} ", "") + kind + styled(what, "")
