from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.check.certificate import check_certificate
from tests import certificates
from tests.certificates import Pair
from tests.config.sample import GOOD, edit, read


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return certificates.make(tmp_path / "service", "DNS:storage.lan")


def look(folder: Path, pair: Pair, ca_file: Path | None, name: str = "storage.lan") -> Finding:
    keys = f"service = https://{name}:8470\ncertificate = {pair.certificate}\n"
    keys += f"private_key = {pair.key}\n" + (f"ca_file = {ca_file}\n" if ca_file else "")
    return check_certificate(read(folder, edit(("[storage]", f"{keys}[storage]"))))


def test_clients_take_it(pair: Pair, tmp_path: Path) -> None:
    found = look(tmp_path, pair, pair.certificate)
    assert found.level == "ok"
    assert f"who trusts {pair.certificate} takes it for https://storage.lan:8470" in found.what


def test_without_https(tmp_path: Path) -> None:
    found = check_certificate(read(tmp_path, GOOD))
    assert (found.level, found.what) == ("ok", "none: http://127.0.0.1:8470 is not encrypted")


def test_what_clients_refuse(pair: Pair, tmp_path: Path) -> None:
    other = certificates.make(tmp_path / "other")
    (tmp_path / "empty").touch()
    refused = {
        "for another name than pc.lan": look(tmp_path, pair, pair.certificate, "pc.lan"),
        "signed by none of the public authorities": look(tmp_path, pair, None),
        f"signed by none of ca_file = {other.certificate}": look(tmp_path, pair, other.certificate),
        "holds no certificate": look(tmp_path, pair, tmp_path / "empty"),
    }
    pair.expire()
    refused["has expired"] = look(tmp_path, pair, pair.certificate)
    pair.key.chmod(0o644)
    refused["open to others"] = look(tmp_path, pair, pair.certificate)
    for word, found in refused.items():
        assert found.level == "error"
        assert word in found.what
        assert found.fix
