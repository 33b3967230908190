"""zfsiscsi power: switch a host's power by hand, through the service or without it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Annotated

import typer

from cuckoo_zfsiscsi import config
from cuckoo_zfsiscsi.cape.client import Client, ServiceError
from cuckoo_zfsiscsi.cli.hosts import make_client
from cuckoo_zfsiscsi.cli.output import JsonOption, conf_path, print_json, stderr, stdout
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, PowerError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.power.connect import make_power, make_witness

NO_ANSWER = ("service unreachable", "service silent")
"""Titles of the errors that mean: nobody is there. Any other no of the service is a no."""
POLL = 0.2
"""Seconds between two looks whether the host is out of service."""
MAINTENANCE = 60.0
"""Seconds beside power_timeout until it is."""


class Action(str, Enum):
    """What can be asked for."""

    ON = "on"
    OFF = "off"
    CYCLE = "cycle"
    STATUS = "status"
    TEST = "test"


STEPS = {
    Action.ON: ("on",),
    Action.OFF: ("off",),
    Action.CYCLE: ("off", "on"),
    Action.STATUS: ("status",),
    Action.TEST: ("off", "on", "off"),
}


@dataclass
class Done:
    """One step, as it went."""

    step: str
    power: str
    seconds: float
    peer: str = ""
    proof: str = ""


Do = Callable[[str], Done]


def power(
    ctx: typer.Context,
    host: Annotated[str, typer.Argument(help="Label of the host.")],
    action: Annotated[
        Action,
        typer.Argument(help="test: switch an idle host off, on and off, and tell what proved it."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Switch the power of a host and prove it, or ask for its state."""
    conf = config.load(conf_path(ctx))
    one = conf.host(host)
    via = "service"
    try:
        with _out_of_service(conf, one, action):
            done = _run(_by_service(conf, one), action, as_json)
    except ServiceError as error:
        if error.title not in NO_ANSWER:
            raise
        stderr.print(f"{error.what}; asking the BMC directly")
        via, done = "bmc", _run(_directly(conf, one), action, as_json)
    if as_json:
        answer: dict[str, object] = {"host": host, "power": done[-1].power, "via": via}
        if action in (Action.CYCLE, Action.TEST):
            answer["steps"] = [asdict(step) for step in done]
        print_json(answer)
    else:
        stdout.print(f"{host}: power is {done[-1].power}")


def _run(do: Do, action: Action, quiet: bool) -> list[Done]:
    done = []
    for step in STEPS[action]:
        done.append(do(step))
        if action is Action.TEST and not quiet:
            last = done[-1]
            stdout.print(f"{step:4} {last.seconds:6.1f} s  {last.peer}: {last.proof}")
    return done


@contextmanager
def _out_of_service(conf: config.Config, host: config.HostConfig, action: Action) -> Iterator[None]:
    """For a test, take an idle host out of service and give it back."""
    client = make_client(conf)
    if action is not Action.TEST or client.host(host.label)["state"] == "maintenance":
        yield
        return
    client.maintenance(host.label, True)
    try:
        _await_maintenance(client, host)
        yield
    finally:
        client.maintenance(host.label, False)


def _await_maintenance(client: Client, host: config.HostConfig) -> None:
    deadline = Deadline(host.power_timeout + MAINTENANCE)
    while (now := client.host(host.label))["state"] != "maintenance":
        if now["state"] == "quarantined" and now["reason"]:
            raise PowerError(f"{host.label} is quarantined: {now['reason']}")
        try:
            deadline.sleep(POLL, f"taking {host.label} out of service")
        except DeadlineExceededError as error:
            raise PowerError(error.what, fix=f"zfsiscsi hosts {host.label}") from None


def _by_service(conf: config.Config, host: config.HostConfig) -> Do:
    client = make_client(conf)

    def do(step: str) -> Done:
        begin = time.monotonic()
        answer = client.power(host.label, step, host.power_timeout)
        try:
            state = PowerState(answer.get("power")).value
        except ValueError:
            raise PowerError(
                f"{host.label}: the service at {conf.zfsiscsi.service} tells no power state",
                fix="is it of the same version? zfsiscsi --version",
            ) from None
        seconds = float(answer.get("seconds") or time.monotonic() - begin)
        peer, proof = (str(answer.get(key, "")) for key in ("peer", "proof"))
        return Done(step, state, seconds, peer, proof)

    return do


def _directly(conf: config.Config, host: config.HostConfig) -> Do:
    switch = make_power(host, make_witness(conf, host))

    def do(step: str) -> Done:
        begin, deadline = time.monotonic(), Deadline(host.power_timeout)
        if step == "status":
            state = switch.status(deadline=deadline).value
            return Done(step, state, time.monotonic() - begin)
        proof = (switch.on if step == "on" else switch.off)(deadline=deadline)
        return Done(step, proof.state.value, proof.seconds, proof.peer, proof.why)

    return do


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command()(power)
