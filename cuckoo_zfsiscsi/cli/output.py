"""What every subcommand prints with, and the options that they share.

Nothing else prints: what is shown may be the words of guests, power devices and tasks, and whatever
is printed here is text alone, never markup, never what a terminal obeys (cuckoo_zfsiscsi.text).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from cuckoo_zfsiscsi.text import shown

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class SafeConsole(Console):
    """A console to which every string is text of whomever: lines, cells and titles of tables.

    What has a colour is a styled(), not markup.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - rich's own
        """Return a string as a Text: rich makes each of its strings one by this."""
        options |= {"markup": False, "emoji": False, "highlight": False}
        return super().render_str(shown(text), **options)


stdout = SafeConsole()
stderr = SafeConsole(stderr=True)


def styled(text: str, style: str) -> Text:
    """Return a text of whomever in a style of rich's."""
    return Text(shown(text), style=style)


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever json.dumps takes
    """Print one JSON document: ASCII alone, so no terminal obeys it."""
    typer.echo(json.dumps(value, indent=2).replace("\x7f", r"\u007f"))


def print_document(text: str) -> None:
    """Print a text of ours, of many lines, for a file or for a program: as it is."""
    typer.echo(text, nl=not text.endswith("\n"))


def conf_path(ctx: typer.Context) -> Path:
    """Return the configuration file that --conf named."""
    path: Path = ctx.find_root().params["conf"]
    return path
