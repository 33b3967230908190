"""The zfsiscsi command. One module per group of subcommands, listed in groups.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cuckoo_zfsiscsi import __version__
from cuckoo_zfsiscsi.cli.groups import LazyGroup
from cuckoo_zfsiscsi.errors import ZfsIscsiError
from cuckoo_zfsiscsi.text import shown

DEFAULT_CONF = Path("/etc/zfsiscsi/zfsiscsi.conf")

app = typer.Typer(
    name="zfsiscsi",
    cls=LazyGroup,
    help="Physical machines for malware analysis: netbooted, and clean at each run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zfsiscsi {__version__}")
        raise typer.Exit


@app.callback()
def options(
    conf: Annotated[
        Path, typer.Option(help="Configuration file.", envvar="ZFSISCSI_CONF")
    ] = DEFAULT_CONF,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options before the subcommand."""


def run(args: Sequence[str]) -> int:
    """Run one command; print an error as what and fix, one line each. Return the exit code."""
    try:
        app(args=list(args), prog_name="zfsiscsi")
    except ZfsIscsiError as error:
        first, *more = error.lines
        for line in (f"error: {first}", *more, *([f"fix: {error.fix}"] if error.fix else ())):
            typer.echo(shown(line), err=True)
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
