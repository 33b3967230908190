"""zfsiscsi probe: ask a guest what the service would ask before it calls the host ready."""

from __future__ import annotations

import dataclasses
import ipaddress
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Annotated

import typer

from cuckoo_zfsiscsi.cli.output import print_json
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.readiness import agent, rpc

Port = Annotated[int, typer.Option(min=1, max=65535)]


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def probe(
    address: Annotated[str, typer.Argument(help="IP address of the guest.", callback=_address)],
    rpc_port: Port = rpc.PORT,
    agent_port: Port = agent.PORT,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for both together.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="It is always JSON.")] = True,  # noqa: ARG001
) -> None:
    """Ask a guest's RPC and agent; print both answers as JSON. Exit code 0: both are right."""
    cancel = Cancel()
    deadline = Deadline(timeout, cancel)
    with ThreadPoolExecutor(2) as pool:
        asked = {
            "rpc": pool.submit(rpc.probe, address, rpc_port, deadline=deadline),
            "agent": pool.submit(agent.probe, address, agent_port, deadline=deadline),
        }
        try:
            wait(asked.values())
        except KeyboardInterrupt:
            cancel.set("interrupted")  # else the pool would wait for the guest
            raise
    answers = {name: future.result() for name, future in asked.items()}
    print_json({name: dataclasses.asdict(answer) for name, answer in answers.items()})
    if not all(answer.ok for answer in answers.values()):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command()(probe)
