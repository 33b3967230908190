"""Why a certificate of the service is not trusted, and what helps."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

TITLE = "service not trusted"

# OpenSSL's X509_V_ERR_*
_NOT_YET, _EXPIRED = 9, 10
_UNKNOWN_SIGNERS = (2, 18, 19, 20, 21)
_OTHER_NAMES = (62, 64)

_HUNG_UP = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""Of a server that may be about to end, or to start anew."""


def unusable(ca_file: str) -> tuple[str, str] | None:
    """Return what is wrong with the file of trusted certificates and its fix; None if nothing."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)
    except OSError as error:
        is_read = isinstance(error, ssl.SSLError)
        why = "holds no certificate" if is_read else f"can't be read: {error.strerror}"
        fix = "ca_file = FILE with the authority's certificate in PEM, which all may read"
        return f"ca_file = {ca_file} {why}", fix
    return None


def explain(error: BaseException, service: str, ca_file: str | None) -> tuple[str, str] | None:
    """Return what is wrong and its fix; None if waiting may help.

    Args:
        error: the innermost one.
        service: https://ADDRESS:PORT.
        ca_file: with the certificates that are trusted; None for those that requests brings.
    """
    name = urlsplit(service).hostname
    code = getattr(error, "verify_code", 0)
    # urllib3's own class, which is not everywhere in the same module
    if type(error).__name__ == "CertificateError" or code in _OTHER_NAMES:
        return (
            f"the certificate of the service at {service} is for another name than {name}",
            f"make one for {name} (docs/cape.rst), or put the name that it has into service =",
        )
    if code in _UNKNOWN_SIGNERS:
        whom = f"ca_file = {ca_file}" if ca_file else "the public authorities"
        return (
            f"the certificate of the service at {service} is signed by none of {whom}",
            "ca_file = FILE with the certificate of the authority that signed it",
        )
    if code == _EXPIRED:
        return (
            f"the certificate of the service at {service} has expired",
            "renew it on the storage server, then systemctl reload zfsiscsi; if the clock "
            "is wrong: date",
        )
    if code == _NOT_YET:
        return (
            f"the certificate of the service at {service} is not valid yet",
            "compare the clocks of both servers: date",
        )
    if code:
        what = getattr(error, "verify_message", "") or error
        return (
            f"the certificate of the service at {service} is not valid: {what}",
            "make another (docs/cape.rst)",
        )
    if isinstance(error, ssl.SSLError) and not isinstance(error, _HUNG_UP):
        return (
            f"what answers at {service} does not speak TLS as it should: {error.reason or error}",
            "service = http://..., or set certificate and private_key on the storage server",
        )
    return None
