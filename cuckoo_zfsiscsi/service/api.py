"""The control API: what CAPE's plugin, the command line and people ask of the service."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Body, FastAPI, Query, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from cuckoo_zfsiscsi import __version__
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, ZfsIscsiError
from cuckoo_zfsiscsi.netboot.medium import ID, find
from cuckoo_zfsiscsi.netboot.script import URL
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.service import plugin
from cuckoo_zfsiscsi.service.cape_view import CapeView, cape_view
from cuckoo_zfsiscsi.service.events import Event, Kind
from cuckoo_zfsiscsi.service.history import PastRun
from cuckoo_zfsiscsi.service.networks import add_networks
from cuckoo_zfsiscsi.service.problem import of_body, of_error, of_http, problem
from cuckoo_zfsiscsi.service.report import BootReport, HostReport

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.service.fleet import Fleet

LONGEST = 3600.0
"""Seconds that a request may wait at most."""

EDIT_TIMEOUT = 30.0
"""Seconds in which a draft must be made."""

OPEN_PATHS = ("/openapi.json", *plugin.PATHS)
"""What the API can do is no secret, and neither is the package."""

Seconds = Annotated[float, Field(gt=0, le=LONGEST, description="seconds")]

Limit = Annotated[int, Query(ge=1, le=10_000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StartBody(_Body):
    """What start takes."""

    timeout: Seconds | None = None
    task: str | None = Field(None, max_length=200, description="what the run is called in records")
    image: str | None = Field(None, max_length=200, description="name or name@version")
    wait: bool = Field(True, description="false: answer 202 and the host at once, to be polled")


class StopBody(_Body):
    """What stop takes."""

    timeout: Seconds | None = None


class MaintenanceBody(_Body):
    """What maintenance takes."""

    on: bool


class EditBody(_Body):
    """What edit takes."""

    image: str = Field(max_length=200, description="name of the image")
    installer: str | None = Field(
        None, max_length=200, pattern=f"^{URL}$", description="URL of an iPXE script"
    )
    medium: str | None = Field(
        None, pattern=f"^{ID}$", description="Windows' medium, made ready on this server"
    )


class PowerBody(_Body):
    """What power takes."""

    action: Literal["on", "off", "status"]


class PowerAnswer(BaseModel):
    """What power answers."""

    host: str
    power: PowerState
    peer: str = Field("", description="the power device that switched it")
    proof: str = Field("", description="what proves it")
    seconds: float = Field(0.0, description="that the switch and its proof took")


def make_api(fleet: Fleet, token: str | None, wheels: Path = plugin.FOLDER) -> FastAPI:
    """Return the application.

    Args:
        fleet: opened.
        token: bearer token that every request must carry; None where a unix socket guards.
        wheels: folder with the wheel of this package.
    """
    # FastAPI's own pages load their scripts from elsewhere, which a lab without internet can't.
    api = FastAPI(title="zfsiscsi", version=__version__, docs_url=None, redoc_url=None)
    general = fleet.config.zfsiscsi
    api.add_exception_handler(ZfsIscsiError, of_error)
    api.add_exception_handler(HTTPException, of_http)
    api.add_exception_handler(RequestValidationError, of_body)

    boots: set[asyncio.Task[None]] = set()  # that no request waits for: asyncio keeps no tasks

    @api.middleware("http")
    async def authorize(
        request: Request, go_on: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if request.url.path in OPEN_PATHS:
            return await go_on(request)
        if "origin" in request.headers and request.method != "GET":
            return problem(
                request,
                403,
                "forbidden",
                "the control API takes nothing from pages in a browser",
                "use the dashboard, or zfsiscsi on the command line",
            )
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

    plugin.add_plugin(api, wheels)
    add_networks(api, fleet)

    @api.get("/v1/hosts")
    async def list_hosts() -> list[HostReport]:
        """Every host."""
        return [host.report() for host in fleet.hosts()]

    @api.get("/v1/cape")
    async def show_cape() -> CapeView:
        """CAPE's part of the configuration."""
        return cape_view(fleet.config)

    @api.get("/v1/runs")
    async def list_runs(
        task: str | None = None, host: str | None = None, limit: Limit = 50
    ) -> list[PastRun]:
        """Past runs, the newest first."""
        find = partial(fleet.history.find, task=task, host=host, limit=limit)
        return await asyncio.to_thread(find)

    @api.get("/v1/history")
    async def list_events(
        host: str | None = None, kind: Kind | None = None, limit: Limit = 50
    ) -> list[Event]:
        """Past boots, resets, power actions and failures, the newest first."""
        find = partial(fleet.history.events, host=host, kind=kind, limit=limit)
        return await asyncio.to_thread(find)

    @api.get("/metrics")
    async def metrics() -> Response:
        """Return metrics for Prometheus."""
        text = await asyncio.to_thread(fleet.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @api.get("/v1/hosts/{label}")
    async def show_host(label: str) -> HostReport:
        """One host."""
        return fleet.host(label).report()

    @api.get("/v1/hosts/{label}/boots")
    async def list_boots(label: str, limit: Limit = 20) -> list[BootReport]:
        """Return the last boots of a host, the newest first."""
        fleet.host(label)
        return await asyncio.to_thread(fleet.history.boots, label, limit)

    @api.post(
        "/v1/hosts/{label}/start", response_model=BootReport, responses={202: {"model": HostReport}}
    )
    async def start(label: str, body: Annotated[StartBody, Body()]) -> BootReport | Response:
        """Begin a run: answers when the host is ready, or at the timeout.

        With wait = false it answers 202 at once. Then poll GET /v1/hosts/LABEL: while `run` is
        true, `state` is on its way to `running` and `step` says what goes on; when `run` is false,
        `start_error` says why there will be no run.
        """
        host = fleet.host(label)
        timeout = body.timeout or general.start_timeout
        run = host.start(body.task, body.image)
        booted = asyncio.wrap_future(run.booted)

        def give_up() -> None:
            step = host.report().step or "waiting"
            host.abandon(
                run,
                DeadlineExceededError(
                    f"{label} was not ready after {timeout:.0f} s: still {step}",
                    fix=f"zfsiscsi hosts {label}",
                ),
            )

        boot = asyncio.create_task(_finish(booted, timeout, give_up))
        if body.wait:
            await boot
            return await booted
        boots.add(boot)
        boot.add_done_callback(boots.discard)
        return JSONResponse(jsonable_encoder(host.report()), 202)

    @api.post("/v1/hosts/{label}/stop")
    async def stop(label: str, body: Annotated[StopBody, Body()]) -> HostReport:
        """End the run: answers when power is proved off, or at the timeout: it is quarantined."""
        host = fleet.host(label)
        timeout = body.timeout or general.stop_timeout
        stopping = host.stop()
        stopped = asyncio.wrap_future(stopping)
        await asyncio.wait({stopped}, timeout=timeout)
        host.overdue(stopping, timeout)
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

    @api.post("/v1/hosts/{label}/edit")
    async def edit(label: str, body: Annotated[EditBody, Body()]) -> HostReport:
        """Take the host out of service and boot it from an image's draft."""
        host = fleet.host(label)
        deadline = Deadline(EDIT_TIMEOUT)
        installer = find(fleet.config, host.config, body.medium) if body.medium else body.installer
        await asyncio.to_thread(host.edit, body.image, deadline, installer)
        return host.report()

    @api.post("/v1/hosts/{label}/power")
    async def power(label: str, body: Annotated[PowerBody, Body()]) -> PowerAnswer:
        """Ask for the power state, or switch a host that is out of service."""
        host = fleet.host(label)
        deadline = Deadline(host.config.power_timeout)
        if body.action == "status":
            return PowerAnswer(host=label, power=await asyncio.to_thread(host.power, deadline))
        state = PowerState(body.action)
        done = await asyncio.to_thread(host.switch, state, deadline)
        return PowerAnswer(
            host=label, power=state, peer=done.peer, proof=done.why, seconds=done.seconds
        )

    return api


async def _finish(
    booted: asyncio.Future[BootReport], timeout: float, give_up: Callable[[], None]
) -> None:
    """Wait until a boot has led to a run, or failed; give it up after so many seconds."""
    await asyncio.wait({booted}, timeout=timeout)
    if not booted.done():
        give_up()
        await asyncio.wait({booted})
    booted.exception()  # else asyncio logs that nobody has looked, where nobody waits
