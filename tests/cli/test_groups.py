from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cuckoo_zfsiscsi import cli
from cuckoo_zfsiscsi.cli.groups import GROUPS, load

COMMANDS = [command for commands in GROUPS.values() for command in commands]
HEAVY = {"rich", "pydantic", "requests", "urllib3", "jinja2", "fastapi", "uvicorn", "sushy"}
SHOW_IMPORTED = """\
import json, sys
from cuckoo_zfsiscsi.cli import run
code = run(sys.argv[1:])
print()
print(json.dumps([code, *sys.modules]))
"""


def imported_by(*words: str) -> set[str]:
    """Run one command in an interpreter of its own; return which modules it imported."""
    argv = [sys.executable, "-c", SHOW_IMPORTED, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    code, *modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    return set(modules)


def own(modules: set[str]) -> set[str]:
    """Return which of the command line's own modules are among them."""
    start = "cuckoo_zfsiscsi.cli."
    return {name.removeprefix(start) for name in modules if name.startswith(start)}


@pytest.mark.parametrize("module", GROUPS)
def test_the_table_is_what_a_module_registers(module: str) -> None:
    assert tuple(load(module).commands) == GROUPS[module]


def test_the_table_has_every_module() -> None:
    files = Path(str(cli.__file__)).parent.glob("*.py")
    assert {path.stem for path in files if "\ndef register(" in path.read_text()} == set(GROUPS)


def test_no_command_has_two_modules() -> None:
    assert len(set(COMMANDS)) == len(COMMANDS)


def test_version_imports_little() -> None:
    modules = imported_by("--version")
    assert not HEAVY & modules
    ours = {name for name in modules if name.startswith("cuckoo_zfsiscsi.")}
    names = ("cli", "cli.groups", "errors", "text")
    assert ours == {f"cuckoo_zfsiscsi.{name}" for name in names}


def test_a_command_imports_its_own_module_alone() -> None:
    modules = imported_by("serve", "--help")
    assert own(modules) == {"groups", "output", "serve"}
    assert not {"cuckoo_zfsiscsi.measure", "cuckoo_zfsiscsi.compare"} & modules
    assert own(imported_by("probe", "--help")) == {"groups", "output", "probe"}


@pytest.mark.parametrize("words", [["image", "--help"], ["measure", "recovery", "--help"]])
def test_templates_are_loaded_by_those_who_fill_them(words: list[str]) -> None:
    assert "jinja2" not in imported_by(*words)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """With what each is for, in the order of the table."""
    assert cli.run(["--help"]) == 0
    _, _, listed = capsys.readouterr().out.partition("Commands:\n")
    rows = [line.split(maxsplit=1) for line in listed.splitlines()]
    assert [name for name, _ in rows] == COMMANDS
    assert dict(rows)["reset"] == "Prove a host again, from power to disk."


@pytest.mark.parametrize("module", GROUPS)
def test_each_has_its_help(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in GROUPS[module]:
        assert cli.run([command, "--help"]) == 0
        assert f"Usage: zfsiscsi {command} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "said"),
    [("nonsense", "'nonsense'."), ("hots", "'hots'. Did you mean 'hosts', 'boots'?")],
)
def test_unknown_command(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([word]) == 2
    assert capsys.readouterr().err.endswith(f"Error: No such command {said}\n")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("zfsiscsi ", COMMANDS), ("zfsiscsi ho", ["hosts"]), ("zfsiscsi cape un", ["uninstall"])],
)
def test_shell_completion(
    typed: str,
    offered: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("_ZFSISCSI_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
    cli.run([])
    assert capsys.readouterr().out.split() == offered
