"""A self-signed certificate, as every BMC comes with one."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

from cuckoo_zfsiscsi.lab.command import HANG, run

DAYS = "30"


def make(folder: Path, name: str) -> str:
    """Make FOLDER/cert and FOLDER/key; return the certificate's SHA-256 fingerprint.

    Args:
        folder: there already.
        name: whom it is for, like IP:10.98.0.11 or DNS:bmc.

    Raises:
        LabError: openssl can't.
    """
    key, cert = folder / "key", folder / "cert"
    key.touch(0o600)
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-days", DAYS, "-subj", "/CN=bmc", "-addext", f"subjectAltName={name}"]
    run([*argv, "-keyout", str(key), "-out", str(cert)], timeout=HANG)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert.read_text())).hexdigest()
