"""The control API: what CAPE's plugin, the command line and people ask of the service."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Body, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from cuckoo_zfsiscsi import __version__
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, ZfsIscsiError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service.problem import of_body, of_error, of_http, problem
from cuckoo_zfsiscsi.service.report import BootReport, HostReport

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.service.fleet import Fleet

LONGEST = 3600.0
"""Seconds that a request may wait at most."""

OPEN_PATHS = ("/docs", "/openapi.json")
"""What the API can do is no secret, and a browser sends no token."""

Seconds = Annotated[float, Field(gt=0, le=LONGEST, description="seconds")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StartBody(_Body):
    """What start takes."""

    timeout: Seconds | None = None
    task: str | None = Field(None, max_length=200, description="what the run is called in records")
    image: str | None = Field(None, max_length=200, description="name or name@version")


class StopBody(_Body):
    """What stop takes."""

    timeout: Seconds | None = None


class MaintenanceBody(_Body):
    """What maintenance takes."""

    on: bool


class PowerBody(_Body):
    """What power takes."""

    action: Literal["on", "off", "status"]


class PowerAnswer(BaseModel):
    """What power answers."""

    host: str
    power: PowerState


def make_api(fleet: Fleet, token: str | None) -> FastAPI:
    """Return the application.

    Args:
        fleet: opened.
        token: bearer token that every request must carry; None where a unix socket guards.
    """
    api = FastAPI(title="zfsiscsi", version=__version__, description="Control API of the service")
    general = fleet.config.zfsiscsi
    api.add_exception_handler(ZfsIscsiError, of_error)
    api.add_exception_handler(HTTPException, of_http)
    api.add_exception_handler(RequestValidationError, of_body)

    @api.middleware("http")
    async def authorize(
        request: Request, go_on: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if request.url.path in OPEN_PATHS:
            return await go_on(request)
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token is not None and not secrets.compare_digest(given.encode(), token.encode()):
            return problem(
                request,
                401,
                "unauthorized",
                "the bearer token is missing or wrong",
                "give the token in token_file of zfsiscsi.conf",
                **{"WWW-Authenticate": "Bearer"},
            )
        return await go_on(request)

    @api.get("/v1/hosts")
    async def list_hosts() -> list[HostReport]:
        """Every host."""
        return [host.report() for host in fleet.hosts()]

    @api.get("/v1/hosts/{label}")
    async def show_host(label: str) -> HostReport:
        """One host."""
        return fleet.host(label).report()

    @api.post("/v1/hosts/{label}/start")
    async def start(label: str, body: Annotated[StartBody, Body()]) -> BootReport:
        """Begin a run: answers when the host is ready, or at the timeout."""
        host = fleet.host(label)
        timeout = body.timeout or general.start_timeout
        run = host.start(body.task, body.image)
        booted = asyncio.wrap_future(run.booted)
        await asyncio.wait({booted}, timeout=timeout)
        if not booted.done():
            step = host.report().step or "waiting"
            host.abandon(
                run,
                DeadlineExceededError(
                    f"{label} was not ready after {timeout:.0f} s: still {step}",
                    fix=f"zfsiscsi hosts {label}",
                ),
            )
        return await booted

    @api.post("/v1/hosts/{label}/stop")
    async def stop(label: str, body: Annotated[StopBody, Body()]) -> HostReport:
        """End the run: answers when power is proved off."""
        host = fleet.host(label)
        timeout = body.timeout or general.stop_timeout
        stopped = asyncio.wrap_future(host.stop(timeout))
        await asyncio.wait({stopped}, timeout=timeout + 1)
        if not stopped.done():
            raise DeadlineExceededError(
                f"{label}: power is not yet proved off after {timeout:.0f} s",
                fix=f"zfsiscsi hosts {label}",
            )
        await stopped
        return host.report()

    @api.post("/v1/hosts/{label}/reset")
    async def reset(label: str) -> HostReport:
        """Prove the host again, from power to disk. Answers at once."""
        host = fleet.host(label)
        host.reset()
        return host.report()

    @api.post("/v1/hosts/{label}/maintenance")
    async def maintenance(label: str, body: Annotated[MaintenanceBody, Body()]) -> HostReport:
        """Take the host out of service, or put it back. Answers at once."""
        host = fleet.host(label)
        host.maintenance(body.on)
        return host.report()

    @api.post("/v1/hosts/{label}/power")
    async def power(label: str, body: Annotated[PowerBody, Body()]) -> PowerAnswer:
        """Ask for the power state, or switch a host that is out of service."""
        host = fleet.host(label)
        deadline = Deadline(host.config.power_timeout)
        if body.action == "status":
            return PowerAnswer(host=label, power=await asyncio.to_thread(host.power, deadline))
        state = PowerState(body.action)
        await asyncio.to_thread(host.switch, state, deadline)
        return PowerAnswer(host=label, power=state)

    return api
