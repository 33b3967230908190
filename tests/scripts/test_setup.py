"""scripts/setup, with an apt, a dpkg and a pip that only pretend."""

from __future__ import annotations

import os
import pty
import signal
import subprocess

import pytest

from tests.scripts.tree import Tree, pipe

APT = "apt-get -q install -y --no-install-recommends for-server for-lab"
PIP = "python -m pip install --progress-bar off --disable-pip-version-check --editable"


def run(tree: Tree, *words: str) -> tuple[int, str, str]:
    with tree.setup(*words) as process:
        said, failed = process.communicate()
    return process.returncode, said, failed


def test_it_installs_what_is_missing(tree: Tree) -> None:
    code, said, failed = run(tree, "lab")
    assert (code, failed) == (0, "")
    assert tree.called() == ["apt-get -q update", APT, f"{PIP} .[lab]"]
    lines = said.splitlines()
    assert "installing Debian packages (2, and what they need): for-server for-lab" in lines
    assert "installing Python packages into .venv, for the lab" in lines
    assert sum(line.startswith("  done in ") for line in lines) == 3
    assert "policy-rc.d" not in lines
    # Then it is quick, and has nothing to say
    tree.put("all-installed")
    assert run(tree, "lab") == (0, "", "")
    assert len(tree.called()) == 3


def test_more_for_the_tests(tree: Tree) -> None:
    tree.env["ZFSISCSI_LAB_PACKAGES"] = "dhcpd"
    assert run(tree, "test")[0] == 0
    assert tree.called()[1:] == [f"{APT} for-test dhcpd", f"{PIP} .[test]"]


def test_a_daemon_with_an_init_script_alone_does_not_start_by_itself(tree: Tree) -> None:
    """At once it may not anyway (policy-rc.d); this is for the next boot."""
    tree.pretend("update-rc.d", 'echo "update-rc.d $*" >>"$TREE/called"\n')
    tree.env["ZFSISCSI_LAB_PACKAGES"] = "inetsim"
    assert run(tree, "lab")[0] == 0
    assert tree.called()[1:3] == [f"{APT} inetsim", "update-rc.d inetsim disable"]


def test_it_says_how_it_goes_on(tree: Tree) -> None:
    """In a log: a line now and then."""
    tree.put("wait")
    tree.env["ZFSISCSI_PROGRESS_SECONDS"] = "1"
    with tree.setup("lab") as process:
        line = next(line for line in pipe(process.stdout) if line.startswith("  "))
        while "Unpacking" not in line:
            line = next(pipe(process.stdout))
        assert line.endswith(" s: Unpacking thing (1.0) ...\n")
        (tree.at / "wait").unlink()
        rest, failed = process.communicate()
    assert (process.returncode, failed) == (0, "")
    assert "\r" not in rest


def test_it_says_little_in_a_log(tree: Tree) -> None:
    """Unless it takes long."""
    assert " s: " not in run(tree, "lab")[1]


def test_on_a_terminal_one_line_changes(tree: Tree) -> None:
    tree.put("wait")
    ours, its = pty.openpty()
    try:
        with tree.setup("lab", stdout=its) as process:
            said = ""
            while " s: Unpacking thing" not in said:
                said += os.read(ours, 1000).decode()
            (tree.at / "wait").unlink()
            while "for the lab" not in said:
                said += os.read(ours, 1000).decode()
            assert process.wait() == 0
    finally:
        os.close(ours)
        os.close(its)
    live = said[said.index("for-lab\r\n") :].removeprefix("for-lab\r\n")
    before, _, after = live.partition("  done in ")
    assert before.startswith("\r\x1b[K  ")
    assert before.endswith("\r\x1b[K")
    assert "\n" not in before
    assert after


@pytest.mark.parametrize("name", ["apt", "pip"])
def test_a_failure_shows_all_that_was_said(name: str, tree: Tree) -> None:
    tree.put(f"{name}-ends-with", "100")
    code, said, failed = run(tree, "lab")
    assert code == 1
    *log, what, fix = failed.splitlines()
    if name == "apt":
        assert log == ["Get:1 some list", "Unpacking thing (1.0) ..."]
        assert what == "error: apt could not install: for-server for-lab"
    else:
        assert log == ["Collecting thing"]
        assert what == "error: pip could not install extra lab"
        assert not list((tree.at / ".venv").glob("stamp-*"))
    assert fix == "fix: see above; then run this again"
    assert "policy-rc.d" not in said


def test_ctrl_c(tree: Tree) -> None:
    """It ends what runs, and takes back what let no service start."""
    tree.put("wait")
    tree.env["ZFSISCSI_PROGRESS_SECONDS"] = "1"
    with tree.setup("lab") as process:
        while "Unpacking" not in next(pipe(process.stdout)):
            pass
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate()  # and nobody holds the pipe open any more
    assert process.returncode == 128 + signal.SIGINT
    assert "policy-rc.d" not in rest
    assert tree.called()[-1] == APT


def test_not_root(tree: Tree) -> None:
    tree.pretend("id", "echo 1000")
    done = tree.script("setup", "test")
    assert done.returncode == 1
    assert done.stderr == (
        "error: this needs root: network namespaces, loop devices, apt\nfix: sudo scripts/test\n"
    )
    assert tree.called() == []


CHROOT = """\
set -e
cd "$1"
[ "$2" != cured ] || mount --bind . .
cd "$1"
mkdir -p usr proc dev etc tmp
for name in bin sbin lib lib64; do [ ! -L /$name ] || ln -s usr/$name $name; done
mount --bind /usr usr
mount --bind /dev dev
[ "$2" = bare ] || mount -t proc proc proc
TREE=/tree PATH=/tree/bin:/usr/bin:/usr/sbin exec chroot . /tree/scripts/lab
"""


@pytest.mark.parametrize("how", ["plain", "bare", "cured"])
def test_in_a_chroot(how: str, tree: Tree) -> None:
    """Where / is no mount point no network can be made: that is said before anything is done."""
    tree.put("apt-ends-with", "100")
    argv = ["unshare", "--mount", "bash", "-c", CHROOT, "chroot", str(tree.at.parent), how]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    if how == "cured":  # it goes on
        assert "error: apt could not install: for-server for-lab" in done.stderr
        return
    what, fix = done.stderr.splitlines()
    if how == "bare":
        assert (what, fix) == ("error: /proc is not mounted", "fix: mount -t proc proc /proc")
    else:
        assert what.startswith("error: / is no mount point")
        assert "mount --bind DIR DIR" in fix
    assert tree.called() == []
    assert done.stdout == ""
