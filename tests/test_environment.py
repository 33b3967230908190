from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cuckoo_zfsiscsi
from cuckoo_zfsiscsi import environment
from cuckoo_zfsiscsi.environment import for_child, for_python, search_path

PACKAGE = Path(str(cuckoo_zfsiscsi.__file__)).parent
STARTS = {
    "subprocess": {"run", "Popen", "call", "check_call", "check_output", "getoutput",
                   "getstatusoutput"},
    "asyncio": {"create_subprocess_exec", "create_subprocess_shell"},
    "os": {"system", "popen", "posix_spawn", "posix_spawnp", "startfile", "fork", "forkpty"},
    "pty": {"spawn", "fork"},
    "multiprocessing": {"Process", "Pool"},
}  # fmt: skip
"""What begins another program, by module."""


def starts(tree: ast.AST) -> Iterator[ast.Call]:
    """Return each call that begins a program."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = node.func.value
            module, name = of.id if isinstance(of, ast.Name) else "", node.func.attr
            is_exec = module == "os" and name.startswith(("exec", "spawn"))
            if is_exec or name in STARTS.get(module, ()):
                yield node


def has_its_own(call: ast.Call) -> bool:
    """Tell whether a call names an environment that is made."""
    given = [key.value for key in call.keywords if key.arg == "env"]
    names = [one.func.id for one in given
             if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)]  # fmt: skip
    return names in (["for_child"], ["for_python"])


def test_no_program_gets_our_environment() -> None:
    """But those of the lab, which is no part of a service."""
    found, wrong = 0, []
    for path in PACKAGE.rglob("*.py"):
        if "lab" in path.relative_to(PACKAGE).parts:
            continue
        tree = ast.parse(path.read_text())
        named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
                 and node.module in STARTS for alias in node.names}  # fmt: skip
        if any(named & names for names in STARTS.values()):
            wrong.append(f"{path}: {named}")
        for call in starts(tree):
            found += 1
            if not has_its_own(call):
                wrong.append(f"{path}:{call.lineno}")
    assert found > 10
    assert not wrong


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("subprocess.run(argv)", False),
        ("subprocess.run(argv, env=os.environ)", False),
        ("subprocess.Popen(argv, env={**os.environ})", False),
        ("os.execvp(argv[0], argv)", False),
        ("subprocess.run(argv, env=for_child())", True),
        ("subprocess.Popen(argv, env=for_python({'A': 'b'}))", True),
    ],
)
def test_what_the_test_before_finds(text: str, right: bool) -> None:
    (call,) = starts(ast.parse(text))
    assert has_its_own(call) is right


def test_nothing_of_ours_but_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZFSISCSI_POWER_PASSWORD_PC1", "secret")
    monkeypatch.setenv("PYTHONPATH", "/some/checkout")
    monkeypatch.setenv("PATH", "/opt/bin:/usr/sbin")
    path = "/opt/bin:/usr/sbin:/usr/local/sbin:/sbin"
    assert for_child() == {"PATH": path, "LC_ALL": "C.UTF-8"}
    assert for_child({"A": "b"}) == {**for_child(), "A": "b"}
    assert for_python({"A": "b"}) == {**for_child(), "PYTHONPATH": "/some/checkout", "A": "b"}
    monkeypatch.delenv("PYTHONPATH")
    assert for_python() == for_child()
    monkeypatch.delenv("PATH")
    assert search_path().startswith(os.defpath)


def test_a_program_of_ours_is_found_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "found_there.py").write_text("print('yes')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    argv = [sys.executable, "-m", "found_there"]
    done = subprocess.run(argv, env=for_python(), capture_output=True, text=True, check=True)
    assert done.stdout == "yes\n"


def test_the_folders_of_system_programs_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "systemic").write_text("#!/bin/sh\necho yes\n")
    (tmp_path / "systemic").chmod(0o755)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(environment, "_SYSTEM", (str(tmp_path),))
    done = subprocess.run(["systemic"], env=for_child(), capture_output=True, text=True, check=True)
    assert done.stdout == "yes\n"
