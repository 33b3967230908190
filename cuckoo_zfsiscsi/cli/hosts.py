"""zfsiscsi hosts, start, stop, reset, maintenance: what the service knows and does."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from cuckoo_zfsiscsi.cape.client import Client
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stdout, styled
from cuckoo_zfsiscsi.config import Config, load
from cuckoo_zfsiscsi.service.report import RESET_STAGES

Host = Annotated[str, typer.Argument(help="Label of the host, as in zfsiscsi.conf.")]
STYLES = {"ready": "green", "running": "cyan", "quarantined": "red", "booting": "yellow"}


def make_client(config: Config) -> Client:
    """Return the client of the service that the configuration names."""
    general = config.zfsiscsi
    return Client(
        general.service,
        str(general.token_file) if general.token_file else None,
        ca_file=str(general.ca_file) if general.ca_file else None,
    )


def register(app: typer.Typer) -> None:
    """Add the subcommands."""

    @app.command()
    def hosts(
        ctx: typer.Context,
        host: Annotated[
            str | None, typer.Argument(help="One host; all of them if left out.")
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Show the hosts: state, image, generation, run, and how the last boot went."""
        client = make_client(load(conf_path(ctx)))
        found = [client.host(host)] if host else client.hosts()
        if as_json:
            print_json(found[0] if host else found)
            return
        stdout.print(_table(found))
        for entry in found:
            for text in (entry["reason"], entry["warning"]):
                if text:
                    stdout.print(f"{entry['label']}: {text}")
        if host and found[0]["last_boot"]:
            stdout.print(_stages(found[0]["last_boot"]))

    @app.command()
    def start(
        ctx: typer.Context,
        host: Host,
        timeout: Annotated[float | None, typer.Option(help="Seconds to wait.")] = None,
        task: Annotated[str | None, typer.Option(help="What the run is called.")] = None,
        image: Annotated[
            str | None, typer.Option(help="Other image: name or name@version.")
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Begin a run: give the host a clean disk, boot it, and wait until it is ready."""
        config = load(conf_path(ctx))
        seconds = timeout or config.zfsiscsi.start_timeout
        report = make_client(config).start(host, seconds, task, image)
        if as_json:
            print_json(report)
        else:
            stdout.print(f"{host} is ready: {report['image']}, generation {report['generation']}")
            if report["warning"]:
                stdout.print(report["warning"])
            stdout.print(_stages(report))

    @app.command()
    def stop(
        ctx: typer.Context,
        host: Host,
        timeout: Annotated[float | None, typer.Option(help="Seconds to wait.")] = None,
        as_json: JsonOption = False,
    ) -> None:
        """End the run: cut power and prove it. The disk is reset behind the scenes."""
        config = load(conf_path(ctx))
        seconds = timeout or config.zfsiscsi.stop_timeout
        _show(make_client(config).stop(host, seconds), as_json)

    @app.command()
    def reset(ctx: typer.Context, host: Host, as_json: JsonOption = False) -> None:
        """Prove a host again, from power to disk. Ends a quarantine whose cause is gone."""
        _show(make_client(load(conf_path(ctx))).reset(host), as_json)

    @app.command()
    def maintenance(
        ctx: typer.Context,
        host: Host,
        to: Annotated[Literal["on", "off"], typer.Argument()],
        as_json: JsonOption = False,
    ) -> None:
        """Take a host out of service (off, without a disk), or put it back."""
        _show(make_client(load(conf_path(ctx))).maintenance(host, to == "on"), as_json)


def _show(host: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(host)
    else:
        stdout.print(f"{host['label']}: {host['state']}" + (host["step"] and f", {host['step']}"))
        for what in host["seen"]:
            stdout.print(f"{host['label']}, in its last run: {what}")


def _table(hosts: list[dict[str, Any]]) -> Table:
    table = Table("host", "state", "for", "image", "generation", "run", "recovery")
    for host in hosts:
        boot = host["last_boot"] or {}
        state = host["state"]
        table.add_row(
            host["label"],
            styled(state, STYLES.get(state, "default")),
            f"{max(0, time.time() - host['since']):.0f} s",
            host["image"] or "-",
            str(host["generation"] or "-"),
            (host["task"] or "yes") if host["run"] else "-",
            f"{boot['recovery_s']:.1f} s" if boot.get("recovery_s") else "-",
        )
    return table


def _stages(boot: dict[str, Any]) -> Table:
    table = Table("stage", "seconds", title="last boot")
    stages: dict[str, float] = boot["stages"]
    # First how long the reset took, step by step; then what was reached when.
    steps = [name for name in RESET_STAGES if name in stages]
    reached = sorted(set(stages) - set(steps), key=lambda name: stages[name])
    for stage in [*steps, *reached]:
        seconds = stages[stage]
        table.add_row(stage, f"{seconds:.2f}")
    return table
