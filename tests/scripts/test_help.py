"""What the scripts say of themselves, before they install anything."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import pytest
from typer.models import OptionInfo

from cuckoo_zfsiscsi.lab import main as lab
from tests.scripts.tree import Tree

METAVARS = {bool: "", int: "N", str: "TEXT", Path: "FILE"}


def describe(name: str, kind: object, default: object) -> str:
    """Return what a help says of one option of the lab, in one line."""
    assert get_origin(kind) is Annotated, name
    plain, option = get_args(kind)
    assert isinstance(option, OptionInfo)
    if get_origin(plain) is Literal:
        metavar = "|".join(get_args(plain))
    else:
        metavar = METAVARS[next(one for one in (*get_args(plain), plain) if one in METAVARS)]
    shown = "" if default in (None, False) else f"[default: {default}]"
    words = (f"--{name.replace('_', '-')}", metavar, option.help or "", shown)
    return " ".join(word for word in words if word)


def options_of_the_lab() -> list[str]:
    kinds = get_type_hints(lab.main, include_extras=True)
    defaults = lab.main.__defaults__ or ()
    del kinds["return"]
    return [
        describe(name, kind, default)
        for (name, kind), default in zip(kinds.items(), defaults, strict=True)
    ]


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--store", "zfs", "--help"]])
def test_the_lab_on_a_fresh_machine(words: list[str], fresh: Tree) -> None:
    """It tells every option as the program itself would, and installs nothing for that."""
    done = fresh.script("lab", *words)
    assert (done.returncode, done.stderr) == (0, "")
    head, _, listed = done.stdout.partition("\nOptions:\n")
    expected = [*options_of_the_lab(), "--help Show this message and exit."]
    assert " ".join(listed.split()) == " ".join(expected)
    assert str(lab.app.registered_commands[0].help) in head
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert fresh.called() == []
    assert not (fresh.at / ".venv").exists()


def test_the_lab_where_it_is_installed(fresh: Tree) -> None:
    (fresh.at / ".venv").symlink_to(sys.prefix)
    done = fresh.script("lab", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: scripts/lab [OPTIONS]\n")
    for line in options_of_the_lab():
        assert f"  {line.split()[0]} " in done.stdout
    assert fresh.called() == []


def test_the_lab_where_the_environment_is_broken(tree: Tree) -> None:
    tree.put("pip-ends-with", "1")
    tree.pretend("python", "echo nonsense >&2; exit 1", ".venv/bin")
    done = tree.script("lab", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  --firmware bios|uefi " in done.stdout


@pytest.mark.parametrize("word", ["--help", "-h"])
@pytest.mark.parametrize(("name", "usage"), [("setup", "scripts/setup [lab|test]\n"),
                                             ("check", "scripts/check\n")])  # fmt: skip
def test_setup_and_check(name: str, usage: str, word: str, fresh: Tree) -> None:
    done = fresh.script(name, word)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(usage)
    assert fresh.called() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["setup", "tset"], "scripts/setup knows no tset\nfix: scripts/setup lab, or"),
        (["setup", "server"], "scripts/setup knows no server\nfix: scripts/setup lab, or"),
        (["setup", "lab", "test"], "scripts/setup knows no lab test\nfix: scripts/setup lab, or"),
        (["check", "tests"], "scripts/check takes no options: tests\nfix: scripts/check\n"),
    ],
)
def test_what_they_do_not_know(words: list[str], said: str, fresh: Tree) -> None:
    done = fresh.script(*words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {said}")
    assert len(done.stderr.splitlines()) == 2
    assert fresh.called() == []
