"""The networks over HTTP: which there are, and whether their hosts reach each other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

from fastapi import Body, FastAPI
from pydantic import BaseModel, Field

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import HostBusyError
from cuckoo_zfsiscsi.isolation import TASK, TIMEOUT, Attempt, NetworkIsolation
from cuckoo_zfsiscsi.service.report import State

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.service.fleet import Fleet


class IsolationBody(BaseModel):
    """Who tries."""

    hosts: list[str] = Field(
        description="two or more, each with a run of the task isolation", min_length=2
    )


def add_networks(api: FastAPI, fleet: Fleet) -> None:
    """Add the paths."""

    @api.get("/v1/networks")
    async def list_networks() -> list[NetworkIsolation]:
        """Every network with hosts, and whether these are isolated from each other."""
        return fleet.isolation.report()

    @api.post("/v1/networks/{name}/isolation")
    async def isolation(name: str, body: Annotated[IsolationBody, Body()]) -> list[Attempt]:
        """Have hosts that run try to reach each other; answers with what each has reached."""
        for label in body.hosts:
            report = fleet.host(label).report()
            if report.task != TASK or report.state is not State.RUNNING:
                raise HostBusyError(
                    f"{label} has no run of its own for this: a sample could say anything",
                    fix=f"zfsiscsi netboot isolation --network {name}",
                )
        deadline = Deadline(TIMEOUT)
        return await asyncio.to_thread(fleet.isolation.prove, name, body.hosts, deadline)
