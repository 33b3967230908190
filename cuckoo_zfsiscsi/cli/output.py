"""What every subcommand prints with, and the options that they share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever json.dumps takes
    """Print one JSON document."""
    typer.echo(json.dumps(value, indent=2))


def conf_path(ctx: typer.Context) -> Path:
    """Return the configuration file that --conf named."""
    path: Path = ctx.find_root().params["conf"]
    return path
