"""What CAPE tells its rooter for each route (analysis_manager.py, route_network)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Route = Literal["none", "internet", "inetsim", "drop"]
Call = tuple[str, ...]
"""One command to the rooter, and its arguments."""

RESULT_PORT = "2042"
"""Of CAPE's result server: what a host may reach whatever the route."""


@dataclass(frozen=True)
class Routing:
    """CAPE's routing.conf: what the routes lead to."""

    hosts: str
    """Interface towards the hosts: a machine's `interface`."""
    internet: str
    """Interface towards the internet, the dirty line."""
    rt_table: str
    """Routing table of the dirty line."""
    inetsim: str
    """Interface towards INetSim."""
    inetsim_server: str
    """Address of INetSim."""

    def at_start(self) -> list[Call]:
        """Return what CAPE says at its start, on a server where nothing is left of earlier ones."""
        return [
            ("cleanup_rooter",),
            ("forward_drop",),
            ("state_enable",),
            ("enable_nat", self.internet),
            ("enable_nat", self.inetsim),
        ]

    def enable(self, route: Route, host: str) -> list[Call]:
        """Return what CAPE says once a host has started.

        Args:
            route: of its task.
            host: its address.
        """
        return [(f"{name}_enable", *arguments) for name, *arguments in self._rules(route, host)]

    def disable(self, route: Route, host: str) -> list[Call]:
        """Return what CAPE says before the host is stopped; arguments as of enable()."""
        return [(f"{name}_disable", *arguments) for name, *arguments in self._rules(route, host)]

    def _rules(self, route: Route, host: str) -> list[Call]:
        # Without libvirt_fwo: there is no such chain where no libvirt is
        if route == "internet":
            return [("forward", self.hosts, self.internet, host), ("srcroute", self.rt_table, host)]
        if route == "inetsim":
            return [
                ("inetsim", host, self.inetsim_server, "53", RESULT_PORT, ""),
                ("forward", self.hosts, self.inetsim, host),
            ]
        return [("drop", host, RESULT_PORT)]
