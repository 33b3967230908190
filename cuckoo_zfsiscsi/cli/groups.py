"""Which module has which subcommand; a module is imported when one of its own is asked for.

All of them together import iSCSI targets, ZFS, templates and more: seconds of work on a slow
server, of which one command needs a small part.
"""

from __future__ import annotations

import importlib

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

GROUPS: dict[str, tuple[str, ...]] = {
    "check": ("check",),
    "doctor": ("doctor",),
    "hosts": ("hosts", "start", "stop", "reset", "maintenance"),
    "runs": ("runs",),
    "boots": ("boots",),
    "history": ("history",),
    "serve": ("serve",),
    "power": ("power",),
    "discover": ("discover",),
    "probe": ("probe",),
    "compare": ("compare",),
    "storage": ("storage",),
    "image": ("image",),
    "evidence": ("evidence",),
    "netboot": ("netboot",),
    "cape": ("cape",),
    "measure": ("measure",),
}
"""Modules of this package, each with register(app), and what they register; as --help lists it."""

_MODULES = {command: module for module, commands in GROUPS.items() for command in commands}


class LazyGroup(TyperGroup):
    """The subcommands of all modules in GROUPS."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002 - typer's signature
        """Return the names of all subcommands, without an import."""
        return list(_MODULES)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | TyperGroup | None:  # noqa: ARG002
        """Return one subcommand; None if there is none of this name."""
        if cmd_name not in _MODULES:
            # Typer looks for similar names in self.commands, to suggest them
            wanted = list(GROUPS)
        else:
            wanted = [] if cmd_name in self.commands else [_MODULES[cmd_name]]
        for module in wanted:
            self.commands.update(load(module).commands)
        found = self.commands.get(cmd_name)
        return found if isinstance(found, TyperCommand | TyperGroup) else None


def load(module: str) -> TyperGroup:
    """Import one module of GROUPS; return a group of what it registers."""
    app = typer.Typer(rich_markup_mode=None)
    importlib.import_module(f"cuckoo_zfsiscsi.cli.{module}").register(app)
    return get_group(app)
