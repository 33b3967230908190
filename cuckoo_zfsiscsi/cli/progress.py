"""A bar while something long runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from cuckoo_zfsiscsi.cli.output import stderr
from cuckoo_zfsiscsi.progress import Progress, silent


@contextlib.contextmanager
def show_bar(what: str, as_json: bool) -> Iterator[Progress]:
    """Show a bar on stderr while something long runs; none for programs."""
    if as_json:
        yield silent
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Bar(*columns, TimeRemainingColumn(), console=stderr) as bar:
        task = bar.add_task(what, total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield progress
