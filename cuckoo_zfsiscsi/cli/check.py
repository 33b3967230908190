"""zfsiscsi check: everything that can be wrong before the first run, and how to fix it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.check.dialect import check_dialect
from cuckoo_zfsiscsi.check.plausible import check_plausible
from cuckoo_zfsiscsi.cli.findings import show
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, stderr
from cuckoo_zfsiscsi.config import Config, InvalidConfigError, load
from cuckoo_zfsiscsi.config.ini import read_ini


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
        show(path, _findings(path, offline), as_json=as_json)


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
    yield from check_service(config)
