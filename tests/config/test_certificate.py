from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config.certificate import load_certificate
from cuckoo_zfsiscsi.errors import ConfigError
from tests import certificates
from tests.certificates import Pair


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return certificates.make(tmp_path / "service")


def refused(certificate: Path, key: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
    assert caught.value.fix
    assert "PRIVATE" not in str(caught.value)
    return caught.value


def test_a_pair_that_fits(pair: Pair) -> None:
    load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair.certificate, pair.key)


def test_the_key_is_a_secret(pair: Pair) -> None:
    pair.key.chmod(0o640)
    error = refused(pair.certificate, pair.key)
    assert "private_key" in error.what
    assert "open to others" in error.what
    assert error.fix == f"chmod 600 {pair.key}"


def test_files_that_are_not_there(pair: Pair, tmp_path: Path) -> None:
    assert "private_key" in refused(pair.certificate, tmp_path / "none").what
    error = refused(tmp_path / "none", pair.key)
    assert "certificate" in error.what
    assert "No such file" in error.what


def test_files_that_do_not_fit(pair: Pair, tmp_path: Path) -> None:
    other = certificates.make(tmp_path / "other")
    assert "no certificate and its private key" in refused(pair.certificate, other.key).what
    assert "no certificate and its private key" in refused(pair.key, pair.key).what


def test_a_passphrase_is_not_asked_for(pair: Pair, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    argv = ["openssl", "pkcs8", "-topk8", "-in", str(pair.key)]
    argv += ["-passout", "pass:x", "-out", str(locked)]
    subprocess.run(argv, check=True, capture_output=True)
    locked.chmod(0o600)
    assert "without a passphrase" in refused(pair.certificate, locked).what
