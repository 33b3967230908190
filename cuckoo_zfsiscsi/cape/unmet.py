"""What a task's report will lack though all goes well: its analyst is told, CAPE says nothing."""

from __future__ import annotations

from typing import Any

RESULT_PORT = 2042
"""CAPE's own, which the service takes for granted where its zfsiscsi.conf names none."""
FIX = "zfsiscsi cape install --apply, then restart CAPE"


def unmet_wishes(task: Any, *, memory_dump: bool) -> list[str]:  # noqa: ANN401 - CAPE's has no type
    """Return what a task asks for that no physical host gives.

    Args:
        task: CAPE's; None in a thread of no task.
        memory_dump: of cuckoo.conf: it is asked for by every task.
    """
    found = []
    if memory_dump or getattr(task, "memory", False):
        where = "memory_dump = no in cuckoo.conf" if memory_dump else "submit without memory"
        found.append(f"a memory dump is asked for: this machinery takes none (fix: {where})")
    options = str(getattr(task, "options", None) or "")
    if "interactive=1" in options.replace(" ", "").split(","):
        found.append(
            "interactive is asked for: this machinery shows no desktop (fix: submit without it)"
        )
    return found


def mismatches(machine: Any, view: dict[str, Any]) -> list[str]:  # noqa: ANN401 - CAPE's row
    """Return where CAPE's row of a host and the service's zfsiscsi.conf differ, and what it costs.

    Args:
        machine: CAPE's row.
        view: what the service says of its hosts, see service.cape_view.
    """
    label = str(machine.label)
    host = next((one for one in view["hosts"] if one["label"] == label), None)
    if host is None:
        return []
    found = []
    wanted = host.get("interface") or view["interface"]
    if machine.interface and machine.interface != wanted:
        found.append(
            f"CAPE records on interface {machine.interface}, and the service's zfsiscsi.conf has "
            f"{wanted} for {label}: the capture may be empty (fix: {FIX})"
        )
    port = str(host.get("resultserver_port") or RESULT_PORT)
    if machine.resultserver_port and str(machine.resultserver_port) != port:
        found.append(
            f"CAPE's result server listens on port {machine.resultserver_port}, and the service's "
            f"zfsiscsi.conf has {port} for {label}: a firewall made of that lets no results "
            f"through (fix: resultserver_port there or in CAPE's zfsiscsi.conf, then restart both)"
        )
    return found
