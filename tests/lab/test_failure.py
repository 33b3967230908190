"""What stays of a lab that failed; and that nothing else does, even with no room for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import bring_up, failure, guest_image, main
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.bring_up import Lab

CHECKOUT = Path(failure.__file__).parents[2]


@pytest.fixture
def at(tmp_path: Path) -> Path:
    """Return a lab's directory as a failed one leaves it."""
    made = tmp_path / "at"
    for name in ("pc1/bmc", "server/out", "store/golden"):
        (made / name).mkdir(parents=True)
    for name in (
        "zfsiscsi.conf", "service.log", "wire.pcap0", "wire.pcap1", "pc1/console-1.log",
        "pc1/bmc/log", "server/out/service.log", "token", "bmc.password", "store/golden/disk",
    ):  # fmt: skip
        (made / name).write_text(name)
    (made / "pc1/console.log").symlink_to("console-1.log")
    return made


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder for labs, whose path is short enough for their sockets."""
    with tempfile.TemporaryDirectory(prefix="zl", dir=bring_up.FOLDER) as name:
        yield Path(name)


@pytest.fixture
def failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where folders of failures go."""
    monkeypatch.setattr(failure, "default_folder", lambda: tmp_path / "failures")
    return tmp_path / "failures"


@pytest.fixture
def full(failures: Path) -> Iterator[Path]:
    """Have them go to a file system without room."""
    failures.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", failures], check=True)
    fill = ["dd", "if=/dev/zero", f"of={failures / '0'}"]
    assert b"No space left" in subprocess.run(fill, check=False, capture_output=True).stderr
    yield failures
    subprocess.run(["umount", failures], check=True)


def test_what_is_kept(at: Path, failures: Path) -> None:
    said = failure.keep(at, "no boot")
    kept = Path(re.fullmatch(r"the failure's consoles, logs and packets: (\S+)", said)[1])  # type: ignore[index]
    assert kept.parent == failures
    assert (kept / "why.txt").read_text() == "no boot\n"
    assert {path.name: path.read_text() for path in kept.iterdir() if path.name != "why.txt"} == {
        name.replace("/", "-"): name
        for name in (
            "zfsiscsi.conf", "service.log", "wire.pcap0", "wire.pcap1", "pc1/console-1.log",
            "pc1/bmc/log", "server/out/service.log",
        )
    }  # fmt: skip
    for folder in (failures, kept):  # a boot script that went over the wire has a secret
        assert folder.stat().st_mode & 0o777 == 0o700
    assert (kept / "wire.pcap0").stat().st_mode & 0o777 == 0o600


def test_few_and_bounded(at: Path, failures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure, "MOST", 100)
    (at / "service.log").write_text("x" * 1000 + "the end")
    for number in range(9):
        (failures / f"20200101-00000{number}-old").mkdir(parents=True)
    said = failure.keep(at, "why")
    names = sorted(path.name for path in failures.iterdir())
    assert names[:-1] == [f"20200101-00000{number}-old" for number in (5, 6, 7, 8)]
    assert len(names) == failure.KEEP
    log = Path(said.rpartition(" ")[2], "service.log").read_text()
    assert log == "[907 bytes before this are left out]\n" + "x" * 93 + "the end"


def test_what_has_just_gone(at: Path, failures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure, "_found", lambda _at: [at / "gone.log", at / "service.log"])
    kept = Path(failure.keep(at, "why").rpartition(" ")[2])
    assert {path.name for path in kept.iterdir()} == {"why.txt", "service.log"}


def test_no_room(at: Path, full: Path) -> None:
    said = failure.keep(at, "why" * 5000)
    assert re.search(r"could not be kept in \S+: .*No space left on device", said)
    assert "\n" not in said
    assert [path.name for path in full.iterdir()] in ([], ["0"]), "nothing of the attempt is left"


def make(folder: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Lab:
    monkeypatch.setattr(bring_up, "FOLDER", folder)
    image = folder / "image.raw"
    image.write_bytes(os.urandom(4 << 20))
    return Lab(firmware="bios", prewarm=False, image=image, say=said.append)


def is_gone(lab: Lab) -> bool:
    return not lab.at.exists() and not (net.FOLDER / lab.network.name).exists()


def test_a_lab_that_fails(place: Path, failures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Console, log and packets are kept while all of it runs; the error says where."""
    said: list[str] = []
    lab = make(place, monkeypatch, said)
    with pytest.raises(LabError, match="no boot") as error, lab:  # noqa: PT012
        lab.machine.on()
        raise LabError("no boot")
    assert is_gone(lab)
    assert said[-1:] == getattr(error.value, "__notes__", said[-1:])
    kept = Path(said[-1].rpartition(" ")[2])
    assert (kept / "why.txt").read_text() == "LabError: no boot\n"
    assert "pc1-console-1.log" in {path.name for path in kept.iterdir()}
    assert (kept / "service.log").read_text()
    assert (kept / "wire.pcap0").read_bytes()[:4] in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4")


def test_a_lab_that_is_not_up(place: Path, failures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    lab = make(place, monkeypatch, said)
    lab.image = place / "no-image"
    with pytest.raises(LabError, match="can't read"), lab:
        pytest.fail("it can't be up")
    assert is_gone(lab)
    assert Path(said[-1].rpartition(" ")[2], "wire.pcap0").exists()


def test_a_lab_that_ends_well_keeps_nothing(
    place: Path, failures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(place, monkeypatch, []) as lab:
        pass
    assert is_gone(lab)
    assert not failures.exists()


def test_a_lab_is_taken_down_without_room(
    place: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    lab = make(place, monkeypatch, said)
    with pytest.raises(LabError, match="no boot"), lab:
        raise LabError("no boot " * 2000)
    assert is_gone(lab)
    assert "No space left on device" in said[-1]


@pytest.mark.parametrize("error", [LabError("no boot " * 2000), KeyError("a mistake of ours")])
def test_the_program_takes_down_without_room(
    place: Path,
    tmp_path: Path,
    full: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    """What it says stays whole: the error, why there is no evidence, the verdict."""
    labs: list[Lab] = []
    image = tmp_path / "image.raw"
    image.write_bytes(os.urandom(4 << 20))

    def work(lab: Lab, *_: object) -> None:
        labs.append(lab)
        raise error

    monkeypatch.setattr(bring_up, "FOLDER", place)
    monkeypatch.setattr(guest_image, "build", lambda *_args, **_options: image)
    monkeypatch.setattr(main, "work", work)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    if isinstance(error, LabError):
        assert main.run(["--runs", "1"]) == 1
    else:
        with pytest.raises(KeyError):
            main.run(["--runs", "1"])
    assert is_gone(labs[0])
    said = capsys.readouterr().out
    assert len([line for line in said.splitlines() if "could not be kept" in line]) == 1
    assert said.rstrip().endswith("FAIL") is isinstance(error, LabError)


TEST = """
import pytest

class Lab:
    def keep_evidence(self, why):
        return f"{len(why.splitlines())} lines kept"

@pytest.fixture
def lab():
    return Lab()

def test_good(lab):
    pass

def test_bad(lab):
    assert 1 == 2
"""


def test_a_test_that_fails_says_where_its_labs_evidence_is(tmp_path: Path) -> None:
    """Its fixture, the lab, does not hear of it: pytest asks for what is kept."""
    (tmp_path / "test_it.py").write_text(TEST)
    argv = [sys.executable, "-m", "pytest", "-p", "tests.lab.conftest", "-p", "no:cacheprovider"]
    argv += ["-c", os.devnull, f"--rootdir={tmp_path}", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert "1 failed, 1 passed" in done.stdout
    assert re.search(r"--- lab ---+\n\d+ lines kept\n", done.stdout), done.stdout
