"""zfsiscsi check: everything that can be wrong before the first run, and how to fix it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.check.dialect import check_dialect
from cuckoo_zfsiscsi.check.plausible import check_plausible
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stderr, stdout
from cuckoo_zfsiscsi.config import Config, InvalidConfigError, load
from cuckoo_zfsiscsi.config.ini import read_ini

_STYLES = {"ok": "green", "info": "blue", "warning": "yellow", "error": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def check(
        ctx: typer.Context,
        offline: Annotated[
            bool, typer.Option("--offline", help="Look at nothing but the file.")
        ] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Check configuration, server, images and power devices; say what to fix.

        Ends with 1 if there is an error, with 0 if there are only warnings.
        """
        path = conf_path(ctx)
        findings = []
        for finding in _findings(path, offline):
            findings.append(finding)
            if not as_json:
                _print(finding)
        ok = all(finding.level != "error" for finding in findings)
        if as_json:
            print_json({"conf": str(path), "ok": ok, "findings": [asdict(f) for f in findings]})
        else:
            _print_sum(findings)
        if not ok:
            raise typer.Exit(1)


def _findings(path: Path, offline: bool) -> Iterator[Finding]:
    """Everything, in the order in which it is found out."""
    try:
        config = load(path)
    except InvalidConfigError as error:
        for mistake in error.mistakes:
            yield Finding("error", f"{path.name} {mistake.where}".strip(), mistake.reason,
                          mistake.fix)  # fmt: skip
        return
    labels = ", ".join(host.label for host in config.hosts)
    yield Finding("ok", str(path), f"has no mistakes; hosts: {labels}")
    yield from check_dialect(read_ini(path))
    yield from check_plausible(config)
    if not offline:
        yield from _online(config)


def _online(config: Config) -> Iterator[Finding]:
    # Only here: the file alone must be checkable where drivers and programs are not.
    from cuckoo_zfsiscsi.check.hosts import check_images, check_power, check_service
    from cuckoo_zfsiscsi.check.server import check_server
    from cuckoo_zfsiscsi.disk.drivers import make_store

    yield from check_server(config)
    yield from check_images(config, make_store(config))
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        asking = progress.add_task("asking the power devices", total=len(config.hosts))
        for finding in check_power(config):
            yield finding
            progress.advance(asking)
    yield check_service(config)


def _print(finding: Finding) -> None:
    stdout.print(f"{finding.level:8}", style=_STYLES[finding.level], end="")
    stdout.print(str(finding), markup=False)


def _print_sum(findings: list[Finding]) -> None:
    def count(level: str) -> str:
        number = sum(finding.level == level for finding in findings)
        return f"{number} {level}{'' if number == 1 else 's'}"

    stdout.print(f"{count('error')}, {count('warning')}")
