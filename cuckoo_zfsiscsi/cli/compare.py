"""zfsiscsi compare: the paper's table 2, of one's own samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cuckoo_zfsiscsi import compare as package
from cuckoo_zfsiscsi.cli.output import JsonOption, print_document, print_json, stderr, stdout
from cuckoo_zfsiscsi.compare.journal import Journal
from cuckoo_zfsiscsi.compare.plan import Plan, read_plan
from cuckoo_zfsiscsi.compare.rest import Rest
from cuckoo_zfsiscsi.compare.result import METHOD, Result, make_result
from cuckoo_zfsiscsi.compare.run import Comparison

File = typer.Option(dir_okay=False, writable=True, help="Write it to this file, too.")


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command()(compare)


def compare(
    plan: Annotated[
        Path | None, typer.Argument(help="Samples, options and environments: see --example.")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Folder of what was done so far; PLAN.compare if left out."
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Repeat runs that ended as infrastructure failures.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Only show what is known so far; ask no server.")
    ] = False,
    example: Annotated[bool, typer.Option("--example", help="Print a plan to begin with.")] = False,
    html: Annotated[Path | None, File] = None,
    csv: Annotated[Path | None, File] = None,
    as_json: JsonOption = False,
) -> None:
    """Run samples in several environments of CAPE servers: table 2 of the paper.

    Interrupt it as you like: the same command goes on, and submits nothing twice.
    """
    if example:
        text = Path(str(package.__file__)).with_name("example.ini").read_text()
        print_document(text)
        return
    if plan is None:
        raise typer.BadParameter("name a plan; --example prints one", param_hint="PLAN")
    for path in (html, csv):
        if path and not path.parent.is_dir():
            raise typer.BadParameter(f"{path.parent} is no directory")
    wanted = read_plan(plan)
    folder = into or plan.with_name(f"{plan.name}.compare")
    with Journal(folder, wanted.fingerprint) as journal:
        comparison = Comparison(wanted, journal, _servers(wanted), _tell)
        if not show:
            if again:
                _tell(f"{comparison.again()} runs are repeated")
            comparison.run()
        result = make_result(comparison)
    _show(result, html, csv, as_json)


def _servers(plan: Plan) -> dict[str, Rest]:
    """Return a client for each server: with the smallest rate of its environments."""
    return {
        env.server: Rest(
            env.server,
            env.token_file,
            min(one.rate for one in plan.environments if one.server == env.server),
            tell=_tell,
        )
        for env in plan.environments
    }


def _show(result: Result, html: Path | None, csv: Path | None, as_json: bool) -> None:
    if html:
        html.write_text(result.html())
    if csv:
        csv.write_text(result.csv())
    if as_json:
        print_json(result.document())
        return
    stdout.print(result.table())
    for failure in result.failures():
        stdout.print(failure, style="red")
    stdout.print(METHOD, style="dim")


def _tell(what: str) -> None:
    stderr.print(what, style="dim")
