"""A small configuration that is right, and ways to spoil it."""

from __future__ import annotations

from pathlib import Path

from cuckoo_zfsiscsi.config import Config, InvalidConfigError, Mistake, load

EXAMPLE = Path(__file__).parents[2] / "conf" / "zfsiscsi.conf"
"""What a lab begins with."""

GOOD = """\
[zfsiscsi]
machines = pc1,pc2
interface = br-lab
token_file = /etc/zfsiscsi/token

[storage]
portal = 10.99.0.1
iqn = iqn.2026-01.org.example:lab

[netboot]
interface = br-lab
address = 10.99.0.1/24
ra_prefix = fd99:0:0:1::/64

[pc1]
label = pc1
platform = windows
ip = 10.99.0.11
arch = x64
tags = win10,x64
snapshot = win10
mac = 00:11:22:33:44:01
power = ipmi://admin@10.98.0.11
power_password_file = /etc/zfsiscsi/pc1.password

[pc2]
label = pc2
platform = linux
ip = 10.99.0.12
arch = x64
snapshot = debian@3
mac = 00:11:22:33:44:02
power = ipmi://admin@10.98.0.12
"""

SECRET = "hunter2-correct-horse"


def edit(*changes: tuple[str, str], text: str = GOOD) -> str:
    """Replace pieces of text; each must be there."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def read(folder: Path, text: str, **environ: str) -> Config:
    """Load a text as a file."""
    path = folder / "zfsiscsi.conf"
    path.write_text(text, encoding="utf-8")
    return load(path, environ=environ)


def mistakes(folder: Path, text: str, **environ: str) -> tuple[Mistake, ...]:
    """Return the mistakes of a text; there must be some."""
    try:
        read(folder, text, **environ)
    except InvalidConfigError as error:
        return error.mistakes
    raise AssertionError("no mistake was found")
