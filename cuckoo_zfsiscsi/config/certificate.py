"""The service's certificate and its private key."""

from __future__ import annotations

import ssl
from pathlib import Path

from cuckoo_zfsiscsi.config.secrets import secret_file
from cuckoo_zfsiscsi.errors import ConfigError

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all good."""


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Have a server show this certificate to those who connect from now on.

    Raises:
        ConfigError: a file can't be used, or others may read the key.
    """
    with secret_file(key, where="[zfsiscsi] private_key"):
        pass
    try:
        with certificate.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(
            f"[zfsiscsi] certificate: {certificate} can't be read: {error.strerror}",
            fix="put the service's certificate there, in PEM: docs/cape.rst",
        ) from None
    try:
        # an empty passphrase: else OpenSSL asks for it at the terminal
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigError(
            f"[zfsiscsi] {certificate} and {key} are no certificate and its private key "
            f"without a passphrase, in PEM: {reason}",
            fix=f"openssl x509 -noout -pubkey -in {certificate}; openssl pkey -pubout -in {key}",
        ) from None
