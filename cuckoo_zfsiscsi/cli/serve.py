"""zfsiscsi serve: run the service."""

from __future__ import annotations

import typer

from cuckoo_zfsiscsi.cli.output import conf_path
from cuckoo_zfsiscsi.config import load


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command()
    def serve(ctx: typer.Context, verbose: bool = typer.Option(False, help="Log more.")) -> None:
        """Run the service until SIGTERM: control API, boot listener, DHCP, target, all hosts.

        Runs as root on the storage server. Trusts nothing at its start: every host is switched
        off, and gets a disk that is proven clean.
        """
        from cuckoo_zfsiscsi.service import logs
        from cuckoo_zfsiscsi.service.serve import serve as run

        limit = logs.set_up(verbose=verbose)
        run(load(conf_path(ctx)), limit.tell)
