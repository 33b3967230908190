"""zfsiscsi measure recovery: the paper's table 4, of one's own hosts."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any

import typer

from cuckoo_zfsiscsi.cape.client import ServiceError
from cuckoo_zfsiscsi.cli.hosts import make_client
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stderr, stdout
from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.measure.paper import METHOD, TABLE_4
from cuckoo_zfsiscsi.measure.recovery import ByService, Measurement, Recovery, watched
from cuckoo_zfsiscsi.measure.show import paper_table, recovery_table, to_csv
from cuckoo_zfsiscsi.measure.watch import Watch
from cuckoo_zfsiscsi.readiness import rpc

File = typer.Option(dir_okay=False, writable=True, help="Write it to this file, too.")


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Measure what the paper measured.", no_args_is_help=True)
    app.add_typer(group, name="measure")
    group.callback()(lambda: None)  # one command so far, and yet a group
    group.command("recovery")(recovery)


def recovery(
    ctx: typer.Context,
    host: Annotated[
        str,
        typer.Argument(
            help="Label of the host; with --until-rpc-lost the IP address of any machine, too."
        ),
    ],
    runs: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 3,
    until_rpc_lost: Annotated[
        bool,
        typer.Option(
            "--until-rpc-lost", help="Only watch: you, or CAPE, reboot it. Nothing is switched."
        ),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            help="Seconds to wait for the host: start_timeout of zfsiscsi.conf if left out; "
            "a day with --until-rpc-lost.",
        ),
    ] = None,
    rpc_port: Annotated[int, typer.Option(min=1, max=65535)] = rpc.PORT,
    csv: Annotated[Path | None, File] = None,
    chart: Annotated[Path | None, File] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure recovery: RPC lost to RPC back, beside the paper's table 4.

    The service stops and starts the host, each time from a clean disk. With prewarm = yes the
    start() column says what CAPE waits. Run it on the storage server: RPC must be reached.
    """
    for path in (csv, chart):
        if path and not path.parent.is_dir():
            raise typer.BadParameter(f"{path.parent} is no directory")
    if until_rpc_lost:
        measured = _watch(ctx, host, runs, timeout or 86400.0, rpc_port)
    else:
        measured = _by_service(ctx, host, runs, timeout, rpc_port)
    if csv:
        csv.write_text(to_csv(measured))
    if chart:
        from cuckoo_zfsiscsi.measure.chart import draw  # loads what templates need

        chart.write_text(draw(measured))
    if as_json:
        paper = {name: list(times) for name, times in TABLE_4}
        print_json({**measured.document(), "paper_table_4_s": paper, "method": METHOD})
        return
    stdout.print(recovery_table(measured))
    stdout.print(paper_table())
    stdout.print(METHOD, style="dim")


def _by_service(
    ctx: typer.Context, label: str, runs: int, timeout: float | None, port: int
) -> Measurement:
    config = load(conf_path(ctx))
    host = config.host(label)
    measured = Measurement(
        label, str(host.ip), "prewarmed" if host.prewarm else "warm", host.snapshot, runs
    )
    with Watch(measured.address, port=port) as watch:
        by_service = ByService(
            make_client(config),
            label,
            watch,
            start_timeout=timeout or config.zfsiscsi.start_timeout,
            stop_timeout=config.zfsiscsi.stop_timeout,
            tell=_tell,
        )
        with contextlib.closing(by_service.runs(runs, prewarm=host.prewarm)) as found:
            _collect(measured, found)
    return measured


def _watch(ctx: typer.Context, host: str, runs: int, timeout: float, port: int) -> Measurement:
    address, image = _address(host), ""
    if address is None:
        config = load(conf_path(ctx))
        known = config.host(host)
        address, image, client = str(known.ip), known.snapshot, make_client(config)

        def last_boot() -> dict[str, Any] | None:
            try:
                boot: dict[str, Any] | None = client.host(host)["last_boot"]
            except ServiceError:  # it need not run for this
                return None
            return boot
    else:

        def last_boot() -> dict[str, Any] | None:
            return None

    measured = Measurement(host, address, "watched", image, runs)
    with Watch(address, port=port) as watch:
        found = watched(watch, runs, timeout=timeout, tell=_tell, last_boot=last_boot)
        _collect(measured, found)
    return measured


def _collect(measured: Measurement, found: Generator[Recovery, None, None]) -> None:
    for run in found:
        measured.runs.append(run)
        _tell(f"run {run.number}: {run.recovery_s:.1f} s")


def _tell(what: str) -> None:
    stderr.print(what, style="dim")


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
