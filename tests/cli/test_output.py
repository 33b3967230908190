from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from rich.table import Table

from cuckoo_zfsiscsi import cli
from cuckoo_zfsiscsi.cli.output import SafeConsole, print_document, print_json, styled

PRINTS = {"echo", "secho", "Console", "write"}
ALLOWED = {
    ("output.py", "echo"),
    ("__init__.py", "echo"),  # before anything of rich's is loaded
}


def test_nothing_else_prints() -> None:
    """Whatever a command prints goes through one place, which takes no text for more than that."""
    wrong = []
    for path in Path(str(cli.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            is_print = name in PRINTS or (isinstance(node.func, ast.Name) and name == "print")
            if is_print and (path.name, name) not in ALLOWED:
                wrong.append(f"{path.name}:{node.lineno}: {name}")
    assert not wrong


def test_no_command_writes_markup() -> None:
    """It would be shown as it is."""
    for path in Path(str(cli.__file__)).parent.glob("*.py"):
        texts = [node.value for node in ast.walk(ast.parse(path.read_text()))
                 if isinstance(node, ast.Constant) and isinstance(node.value, str)]  # fmt: skip
        assert not [text for text in texts if "[/]" in text], path


def test_text_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    console = SafeConsole()
    table = Table("[/h]\x1b", title="[/t]\x1b")
    table.add_row("[/c]\n\x1b[31m")
    table.add_row(styled("[/s]\u202e", "red"))
    console.print("[/l] :smile:\x1b[0m\nforged", table)
    assert "\x1b" not in (said := capsys.readouterr().out)
    for words in (r"[/l] :smile:\x1b[0m\nforged", r"[/h]\x1b", r"[/t]\x1b", r"[/c]\n\x1b[31m",
                  r"[/s]\u202e"):  # fmt: skip
        assert words in said


def test_json_is_whole_and_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a\x1b\x7f": "\x7f\x9b\u202e\n" + "x" * 100_000}
    print_json(value)
    said = capsys.readouterr().out
    assert json.loads(said) == value
    assert said.replace("\n", "").isprintable()
    assert said.isascii()


def test_a_document_is_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("one\n\ttwo", "one\n\ttwo\n"):
        print_document(text)
        assert capsys.readouterr().out == "one\n\ttwo\n"
