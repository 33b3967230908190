"""How check and doctor print what they find."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import typer

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.cli.output import print_json, stdout

_STYLES = {"ok": "green", "info": "blue", "warning": "yellow", "error": "bold red"}


def show(path: Path, found: Iterable[Finding], *, as_json: bool) -> None:
    """Print findings as they come, and their sum; or all of them as JSON.

    Raises:
        typer.Exit: with 1 if there is an error.
    """
    findings = []
    for finding in found:
        findings.append(finding)
        if not as_json:
            _print(finding)
    ok = all(finding.level != "error" for finding in findings)
    if as_json:
        print_json({"conf": str(path), "ok": ok, "findings": [asdict(f) for f in findings]})
    else:
        _print_sum(findings)
    if not ok:
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    stdout.print(f"{finding.level:8}", style=_STYLES[finding.level], end="")
    stdout.print(str(finding))


def _print_sum(findings: list[Finding]) -> None:
    def count(level: str) -> str:
        number = sum(finding.level == level for finding in findings)
        return f"{number} {level}{'' if number == 1 else 's'}"

    stdout.print(f"{count('error')}, {count('warning')}")
