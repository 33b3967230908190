"""Plays a client that connects to the service, to see whether it would trust the certificate."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from cuckoo_zfsiscsi.cape import trust
from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.config.certificate import load_certificate
from cuckoo_zfsiscsi.errors import ConfigError


def check_certificate(config: Config) -> Finding:
    """Shake hands in memory: nothing needs to listen."""
    general = config.zfsiscsi
    where = "[zfsiscsi] certificate"
    if not general.certificate or not general.private_key:
        socket = "not needed: the service is a unix socket"
        plain = f"none: {general.service} is not encrypted"
        return Finding("ok", where, socket if general.service.startswith("unix:") else plain)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        load_certificate(server, general.certificate, general.private_key)
    except ConfigError as error:
        return Finding("error", where, error.what, error.fix)
    ca_file = str(general.ca_file) if general.ca_file else None
    wrong = trust.unusable(ca_file) if ca_file else None
    wrong = wrong or _shake_hands(server, general.service, ca_file)
    if wrong:
        return Finding("error", where, *wrong)
    whom = ca_file or "the public authorities"
    return Finding("ok", where, f"who trusts {whom} takes it for {general.service}")


def _shake_hands(
    server: ssl.SSLContext, service: str, ca_file: str | None
) -> tuple[str, str] | None:
    """Return why a client would not go on, and the fix; None if it would."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(ca_file or DEFAULT_CA_BUNDLE_PATH)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    name = urlsplit(service).hostname
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while sides:
        for side in list(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return trust.explain(error, service, ca_file)
            sides.remove(side)
    return None
