"""The buttons of a host's page: the same verbs as those of the control API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.service.dashboard.gate import Form, Gate
from cuckoo_zfsiscsi.service.dashboard.sessions import Session

if TYPE_CHECKING:
    from cuckoo_zfsiscsi.service.fleet import Fleet


class Actions:
    """What can be done.

    Args:
        fleet: opened.
        gate: lets people in.
    """

    def __init__(self, fleet: Fleet, gate: Gate) -> None:
        self._fleet = fleet
        self._gate = gate

    def routes(self) -> list[Route]:
        """Return them: forms, sent by POST."""
        verbs = {"reset": self._reset, "maintenance": self._maintenance, "power": self._power}
        return [
            Route(f"/hosts/{{label}}/{verb}", self._gate.form(act), methods=["POST"])
            for verb, act in verbs.items()
        ]

    async def _reset(self, request: Request, session: Session, _form: Form) -> Response:
        host = self._fleet.host(request.path_params["label"])
        host.reset()
        session.message = "The host is proved again, from power to disk."
        return _back(request)

    async def _maintenance(self, request: Request, session: Session, form: Form) -> Response:
        host = self._fleet.host(request.path_params["label"])
        on = form.get("on") == "yes"
        host.maintenance(on)
        session.message = (
            "The host is taken out of service." if on else "The host is put back into service."
        )
        return _back(request)

    async def _power(self, request: Request, session: Session, _form: Form) -> Response:
        """Ask the power device; what it says is shown on the page that follows."""
        host = self._fleet.host(request.path_params["label"])
        deadline = Deadline(host.config.power_timeout)
        state = await asyncio.to_thread(host.power, deadline)
        session.message = f"The power device says: {state.value}."
        return _back(request)


def _back(request: Request) -> Response:
    return RedirectResponse(f"/hosts/{request.path_params['label']}", 303)
