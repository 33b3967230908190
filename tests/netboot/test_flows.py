"""What comes of conntrack(8); what it does to a run's connections is in test_isolation.py."""

from __future__ import annotations

import shutil
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cuckoo_zfsiscsi import environment
from cuckoo_zfsiscsi.config import HostConfig, load
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError
from cuckoo_zfsiscsi.netboot.flows import delete
from tests.config.sample import EXAMPLE
from tests.waiting import HANG

OWN = IPv4Address("127.0.0.1")
"""This server is the gateway."""
OTHER = IPv4Address("203.0.113.7")
SAID = "conntrack v1.4.6 (conntrack-tools): "
NONE = f'echo "{SAID}0 flow entries have been deleted." >&2; exit 1'
REFUSED = f'echo "{SAID}Operation failed: Operation not permitted" >&2; exit 1'


@pytest.fixture
def host() -> HostConfig:
    return load(EXAMPLE).hosts[0]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder of programs in which no conntrack is."""
    ip = shutil.which("ip")
    assert ip
    (tmp_path / "ip").symlink_to(ip)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(environment, "_SYSTEM", ())
    return tmp_path


def play(programs: Path, body: str) -> None:
    """Put a conntrack there that leaves its arguments behind."""
    script = programs / "conntrack"
    script.write_text(f'#!/bin/sh\necho "$*" >>{programs}/calls\n{body}\n')
    script.chmod(0o755)


def calls(programs: Path) -> list[str]:
    return (programs / "calls").read_text().splitlines()


@pytest.mark.parametrize("body", ["exit 0", NONE])
def test_both_directions(programs: Path, host: HostConfig, body: str) -> None:
    play(programs, body)
    assert delete(host, OWN, Deadline(HANG)) == ""
    assert calls(programs) == [
        "-D -f ipv4 --orig-src 10.99.0.11",
        "-D -f ipv4 --reply-src 10.99.0.11",
    ]


def test_without_the_program(programs: Path, host: HostConfig) -> None:
    assert delete(host, OWN, Deadline(HANG)) == (
        "connections of pc1's last run may go on in the next: can't run conntrack: No such file "
        "or directory (fix: apt install conntrack)"
    )
    for gateway in (OTHER, None):
        assert delete(host, gateway, Deadline(HANG)) == "", "nothing is to be deleted here"
    (programs / "ip").unlink()
    assert delete(host, OTHER, Deadline(HANG)), "who knows?"
    assert delete(host, None, Deadline(HANG)) == ""


def test_refused(programs: Path, host: HostConfig) -> None:
    play(programs, REFUSED)
    warning = delete(host, OWN, Deadline(HANG))
    assert "Operation failed: Operation not permitted" in warning
    assert warning.endswith("(fix: conntrack -D -s 10.99.0.11)")
    assert len(calls(programs)) == 1
    assert delete(host, OTHER, Deadline(HANG)) == ""


def test_an_entry_expires_meanwhile(programs: Path, host: HostConfig) -> None:
    """An old conntrack ends there, with others still to be deleted."""
    says = f'echo "{SAID}Operation failed: such conntrack doesn\'t exist" >&2'
    play(programs, f"[ -e {programs}/again ] || {{ >{programs}/again; {says}; exit 1; }}")
    assert delete(host, OWN, Deadline(HANG)) == ""
    assert [line.split()[3] for line in calls(programs)] == [
        "--orig-src", "--orig-src", "--reply-src",
    ]  # fmt: skip


def test_time_is_bounded(programs: Path, host: HostConfig) -> None:
    play(programs, "exec /usr/bin/sleep 60")
    assert "--orig-src 10.99.0.11 took longer than 0.5 s (fix: " in delete(host, OWN, Deadline(0.5))
    cancel = Cancel()
    cancel.set("stop")
    with pytest.raises(CancelledError):
        delete(host, OWN, Deadline(HANG, cancel))
