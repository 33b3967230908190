"""https with a certificate that the client trusts, and with each kind that it must not trust."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.cape.client import Client, ServiceError
from cuckoo_zfsiscsi.lab.cape_standin import load_plugin
from tests import certificates
from tests.cape.service import Service, serve
from tests.certificates import Pair

Tls = Callable[[Pair], Service]


@pytest.fixture
def tls() -> Iterator[Tls]:
    """Play the service behind a certificate."""
    with ExitStack() as stack:

        def serve_it(pair: Pair) -> Service:
            service = stack.enter_context(serve())
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            finish = service.finish_request

            def finish_request(request: socket.socket, address: object) -> None:
                """In the thread of each request: a client that hangs up hinders no other."""
                with context.wrap_socket(request, server_side=True) as encrypted:
                    finish(encrypted, address)

            service.finish_request = finish_request  # type: ignore[method-assign,assignment]
            service.url = service.url.replace("http:", "https:")
            return service

        yield serve_it


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return certificates.make(tmp_path / "service")


def refused(service: Service, token_file: Path, ca_file: Path | None) -> ServiceError:
    client = Client(service.url, str(token_file), ca_file=str(ca_file) if ca_file else None)
    with pytest.raises(ServiceError) as caught:
        client.hosts()
    assert caught.value.title == "service not trusted"
    assert not caught.value.unreachable, "waiting does not help"
    assert caught.value.fix
    assert service.calls == [], "the token was given to a stranger"
    return caught.value


def test_who_is_trusted_is_asked(tls: Tls, pair: Pair, token_file: Path) -> None:
    service = tls(pair)
    client = Client(service.url, str(token_file), ca_file=str(pair.certificate))
    assert [host["label"] for host in client.hosts()] == ["pc1", "pc2"]
    assert client.stop("pc1", 5)["label"] == "pc1"


def test_the_plugin_goes_by_the_ca_file(
    tls: Tls, pair: Pair, token_file: Path, tmp_path: Path
) -> None:
    service = tls(pair)
    conf = tmp_path / "zfsiscsi.conf"
    text = f"[zfsiscsi]\nmachines = pc1\nservice = {service.url}\ntoken_file = {token_file}\n"
    conf.write_text(f"{text}ca_file = {pair.certificate}\n")
    assert load_plugin(conf)._list() == ["pc1", "pc2"]


def test_without_ca_file_a_private_authority_is_a_stranger(
    tls: Tls, pair: Pair, token_file: Path
) -> None:
    error = refused(tls(pair), token_file, None)
    assert "signed by none of the public authorities" in error.what
    assert error.fix.startswith("ca_file = FILE")


def test_another_authority(tls: Tls, pair: Pair, token_file: Path, tmp_path: Path) -> None:
    other = certificates.make(tmp_path / "other").certificate
    error = refused(tls(pair), token_file, other)
    assert f"signed by none of ca_file = {other}" in error.what


def test_another_name(tls: Tls, token_file: Path, tmp_path: Path) -> None:
    pair = certificates.make(tmp_path / "other", "DNS:storage.lan")
    service = tls(pair)
    error = refused(service, token_file, pair.certificate)
    assert "for another name than 127.0.0.1" in error.what
    service.url = service.url.replace("127.0.0.1", "localhost")
    assert "than localhost" in refused(service, token_file, pair.certificate).what


def test_expired(tls: Tls, pair: Pair, token_file: Path) -> None:
    pair.expire()
    error = refused(tls(pair), token_file, pair.certificate)
    assert "has expired" in error.what
    assert "reload" in error.fix


def test_no_tls_at_all(service: Service, pair: Pair, token_file: Path) -> None:
    service.url = service.url.replace("http:", "https:")
    error = refused(service, token_file, pair.certificate)
    assert "does not speak TLS" in error.what
    assert "http://" in error.fix


def test_one_that_hangs_up_may_be_back_soon(service: Service, token_file: Path) -> None:
    service.finish_request = lambda *_: None  # type: ignore[method-assign]
    client = Client(service.url.replace("http:", "https:"), str(token_file))
    with pytest.raises(ServiceError, match="no answer of the service") as caught:
        client.hosts()
    assert caught.value.unreachable


def test_the_file_must_hold_certificates(
    tls: Tls, pair: Pair, token_file: Path, tmp_path: Path
) -> None:
    service = tls(pair)
    assert "No such file" in refused(service, token_file, tmp_path / "none").what
    assert "holds no certificate" in refused(service, token_file, token_file).what
