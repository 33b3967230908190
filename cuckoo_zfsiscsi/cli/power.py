"""zfsiscsi power: switch a host's power by hand, through the service or without it."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from cuckoo_zfsiscsi import config
from cuckoo_zfsiscsi.cape.client import ServiceError
from cuckoo_zfsiscsi.cli.hosts import make_client
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.power.connect import make_power

NO_ANSWER = ("service unreachable", "service silent")
"""Titles of the errors that mean: nobody is there. Any other no of the service is a no."""


class Action(str, Enum):
    """What can be asked for."""

    ON = "on"
    OFF = "off"
    STATUS = "status"


def power(
    ctx: typer.Context,
    host: Annotated[str, typer.Argument(help="Label of the host.")],
    action: Annotated[Action, typer.Argument()],
    as_json: JsonOption = False,
) -> None:
    """Switch the power of a host and prove it, or ask for its state."""
    conf = config.load(conf_path(ctx))
    one = conf.host(host)
    via = "service"
    try:
        state = _by_service(conf, one, action)
    except ServiceError as error:
        if error.title not in NO_ANSWER:
            raise
        typer.echo(f"{error.what}; asking the BMC directly", err=True)
        via, state = "bmc", _directly(one, action)
    if as_json:
        print_json({"host": host, "power": state.value, "via": via})
    else:
        typer.echo(f"{host}: power is {state.value}")


def _by_service(conf: config.Config, host: config.HostConfig, action: Action) -> PowerState:
    answer = make_client(conf).power(host.label, action.value, host.power_timeout)
    try:
        return PowerState(answer.get("power"))
    except ValueError:
        raise PowerError(
            f"{host.label}: the service at {conf.zfsiscsi.service} tells no power state",
            fix="is it of the same version? zfsiscsi --version",
        ) from None


def _directly(host: config.HostConfig, action: Action) -> PowerState:
    switch, deadline = make_power(host), Deadline(host.power_timeout)
    if action is Action.STATUS:
        return switch.status(deadline=deadline)
    (switch.on if action is Action.ON else switch.off)(deadline=deadline)
    return PowerState(action.value)


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command()(power)
