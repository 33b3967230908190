"""zfsiscsi doctor: everything about this server that can be wrong, and how to fix it."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.cli.findings import show
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, stderr
from cuckoo_zfsiscsi.config import Config, load


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def doctor(ctx: typer.Context, as_json: JsonOption = False) -> None:
        """Look at this storage server: kernel, pool, network card, firewall, time, systemd unit.

        Changes nothing. Ends with 1 if there is an error, with 0 if there are only warnings.
        zfsiscsi check looks at the configuration, images and power devices.
        """
        path = conf_path(ctx)
        show(path, _findings(load(path)), as_json=as_json)


def _findings(config: Config) -> Iterator[Finding]:
    from cuckoo_zfsiscsi.doctor.checks import about, chosen, look
    from cuckoo_zfsiscsi.doctor.system import System

    system = System()
    yield from about(config, system)
    for check in chosen(config):
        with stderr.status(f"looking at {check.name}"):  # gone before anything is printed
            found = list(look(check, config, system))
        yield from found
