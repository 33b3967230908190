from __future__ import annotations

import os
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config.secrets import read_secret_file
from cuckoo_zfsiscsi.errors import ConfigError
from tests.config.sample import GOOD, SECRET, edit, read


def write(path: Path, content: bytes = SECRET.encode() + b"\n", mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_reads_one_line(tmp_path: Path) -> None:
    secret = read_secret_file(write(tmp_path / "s"), where="here")
    assert secret.get_secret_value() == SECRET
    assert SECRET not in repr(secret) + str(secret)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601])
def test_open_to_others(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "s", mode=mode)
    with pytest.raises(ConfigError, match=r"here: .* is open to others") as caught:
        read_secret_file(path, where="here")
    assert caught.value.fix == f"chmod 600 {path}"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"\n", f"{SECRET}\nmore\n".encode(), b"\xff\xfe", b"a\0b", 5000 * b"x"]
)
def test_not_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match="on one line") as caught:
        read_secret_file(write(tmp_path / "s", content), where="here")
    assert SECRET not in str(caught.value)


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist") as caught:
        read_secret_file(tmp_path / "s", where="here")
    assert "-m 600" in caught.value.fix


def test_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(ConfigError, match="is not a file"):
        read_secret_file(tmp_path / "fifo", where="here")


def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ConfigError, match="can't be read"):
        read_secret_file(tmp_path / "loop", where="here")


def test_token_and_password_are_read_when_needed(tmp_path: Path) -> None:
    token, password = tmp_path / "token", tmp_path / "password"
    text = edit(("/etc/zfsiscsi/token", str(token)), ("/etc/zfsiscsi/pc1.password", str(password)))
    config = read(tmp_path, text)  # neither is there yet
    with pytest.raises(ConfigError, match=r"\[zfsiscsi\] token_file"):
        config.zfsiscsi.read_token()
    with pytest.raises(ConfigError, match=r"\[pc1\] power_password_file"):
        config.host("pc1").read_power_password({})
    write(token)
    write(password, b"one")
    found = config.zfsiscsi.read_token()
    assert found
    assert found.get_secret_value() == SECRET
    found = config.host("pc1").read_power_password({})
    assert found
    assert found.get_secret_value() == "one"
    password.chmod(0o644)
    with pytest.raises(ConfigError, match="open to others"):
        config.host("pc1").read_power_password({})
    assert SECRET not in repr(config)


def test_environment_goes_first(tmp_path: Path) -> None:
    text = edit(
        ("machines = pc1", "machines = pc-1"), ("[pc1]\nlabel = pc1", "[pc-1]\nlabel = pc-1")
    )
    host = read(tmp_path, text).host("pc-1")
    assert host.password_variable == "ZFSISCSI_POWER_PASSWORD_PC_1"
    found = host.read_power_password({"ZFSISCSI_POWER_PASSWORD_PC_1": SECRET})
    assert found
    assert found.get_secret_value() == SECRET
    assert read(tmp_path, GOOD).host("pc2").read_power_password({}) is None
