"""Runs the service: the fleet, the control API and the boot listener, until SIGTERM."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

from cuckoo_zfsiscsi.config import Config, load
from cuckoo_zfsiscsi.config.certificate import CIPHERS, load_certificate
from cuckoo_zfsiscsi.config.model import General
from cuckoo_zfsiscsi.errors import ServeError, ZfsIscsiError
from cuckoo_zfsiscsi.netboot.clients import Clients
from cuckoo_zfsiscsi.netboot.describe import boot_file
from cuckoo_zfsiscsi.netboot.listener import create_app, read_files, server_options
from cuckoo_zfsiscsi.service import admission, audit
from cuckoo_zfsiscsi.service.api import make_api
from cuckoo_zfsiscsi.service.attempts import Attempts
from cuckoo_zfsiscsi.service.dashboard.app import make_app
from cuckoo_zfsiscsi.service.dashboard.feed import Feed
from cuckoo_zfsiscsi.service.fleet import Fleet
from cuckoo_zfsiscsi.service.notify import Notifier

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 3
"""Seconds that open requests get at the end."""

MEND_EVERY = 2.0
"""Seconds between two looks at what must run."""

END_MARGIN = 60.0
"""Seconds that the end takes beside stop_timeout, at most: a last mend, target, DHCP, store."""


class _Server(uvicorn.Server):
    """A server among others: signals are handled once, for all of them."""

    def capture_signals(self) -> Any:  # noqa: ANN401 - uvicorn's own is a context manager
        return nullcontext()


def serve(config: Config, tell: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT; then every host is off and fenced.

    Args:
        config: of the service.
        tell: called now and then, to log what is to be told of the log itself.

    Raises:
        ZfsIscsiError: what can't be had at the start; nothing is left running.
    """
    general, port = config.zfsiscsi, config.netboot.boot_port
    general.run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    token, tls = general.read_token(), _tls(general)
    files = _files(config)
    notifier = Notifier()
    with ExitStack() as stack:
        control = stack.enter_context(_control_socket(general.service))
        boot = [
            stack.enter_context(_listen(str(network.address.ip), port, "boot"))
            for network in config.networks
        ]
        fleet = Fleet(config)
        feed, attempts = Feed(fleet), Attempts()
        secret = token.get_secret_value() if token else None
        app = make_app(fleet, make_api(fleet, secret, attempts=attempts), secret, feed, attempts)
        pool = ThreadPoolExecutor(len(config.hosts) + 4, thread_name_prefix="request")
        fleet.open()
        try:
            clients = Clients(fleet.boots.knows)
            boot_app = create_app(fleet.boots, files, clients)
            servers = [
                (_server(app, **admission.server_options(tls)), [control]),
                (_server(boot_app, **server_options(fleet.boots, clients)), boot),
            ]
            reload = functools.partial(_reload, fleet, files, tls)
            gc.collect()
            gc.freeze()  # what is there now stays: else all answers wait while it is looked through
            asyncio.run(_serve(servers, fleet, feed, pool, notifier, reload, tell))
        finally:
            fleet.close()
            log.info("the service has ended")


def _files(config: Config) -> dict[str, bytes]:
    """Read what is served by HTTP."""
    wanted = {boot_file(host) for host in config.hosts if host.firmware == "uefi"}
    return read_files(config.netboot.tftp_root, wanted)


def _tls(general: General) -> ssl.SSLContext | None:
    """Return how connections to the service are encrypted; None if they are not.

    Raises:
        ConfigError: certificate and key can't be used.
    """
    if not general.certificate or not general.private_key:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(CIPHERS)
    load_certificate(context, general.certificate, general.private_key)
    return context


def _reload(
    fleet: Fleet,
    files: dict[str, bytes],
    tls: ssl.SSLContext | None,
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Take configuration and certificate as they are now, if possible; say so in the log."""
    result = "failed"
    try:
        config = load(fleet.config.path)
        served = _files(config)
        general = config.zfsiscsi
        _tls(general)  # is it right?
        if not fleet.reload(config):
            log.info("reload: nothing has changed")
        result = "taken"
    except ZfsIscsiError as error:
        log.error("reload: nothing was taken: %s", error)
    except Exception:
        log.exception("reload: this should not happen")
    else:
        files.update(served)
        if tls and general.certificate and general.private_key:
            # in the loop's own thread, which makes connections of it
            pair = general.certificate, general.private_key
            loop.call_soon_threadsafe(load_certificate, tls, *pair)
            log.info("reload: the certificate is the one that is there now")
    audit.write("SIGHUP", "reload", result)


def _server(app: ASGIApp, **options: Any) -> _Server:  # noqa: ANN401 - uvicorn's options
    options.setdefault("timeout_graceful_shutdown", CLOSE_TIMEOUT)
    config = uvicorn.Config(app, log_config=None, **options)
    config.load()
    return _Server(config)


async def _serve(
    servers: list[tuple[_Server, list[socket.socket]]],
    fleet: Fleet,
    feed: Feed,
    pool: ThreadPoolExecutor,
    notifier: Notifier,
    reload: Callable[[asyncio.AbstractEventLoop], None],
    tell: Callable[[], None],
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(pool)

    def end() -> None:
        log.info("the service is ending")
        notifier.stopping(fleet.config.zfsiscsi.stop_timeout + END_MARGIN)
        for server, _ in servers:
            server.should_exit = True
        feed.close()
        for host in fleet.hosts():
            host.close()  # whoever waits for a host is told at once

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, loop.run_in_executor, None, reload, loop)
    log.info("serving %d hosts", len(fleet.hosts()))
    notifier.ready(f"serving {len(fleet.hosts())} hosts")
    mending = asyncio.create_task(_mend(fleet, notifier, tell))
    await asyncio.gather(*(server.serve(listeners) for server, listeners in servers))
    mending.cancel()


async def _mend(fleet: Fleet, notifier: Notifier, tell: Callable[[], None]) -> None:
    """Mend for ever. The watchdog is put off only after a round that went well.

    So it watches the event loop and the fleet. The thread is of its own: requests that wait in all
    the others must not look like a death.
    """
    loop = asyncio.get_running_loop()
    notifier.alive()
    with ThreadPoolExecutor(1, thread_name_prefix="mend") as thread:
        while True:
            await asyncio.sleep(MEND_EVERY)
            tell()
            try:
                await loop.run_in_executor(thread, fleet.mend)
            except Exception:
                log.exception("what must run can't be looked at")
            else:
                notifier.alive()


def _control_socket(service: str) -> socket.socket:
    """Listen where the configuration says that clients ask."""
    url = urlsplit(service)
    if url.scheme != "unix":
        return _listen(url.hostname or "", url.port or 80, "control")
    path = Path(url.path)
    _drop_stale(path)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o117)  # for root and the socket's group alone
    try:
        listener.bind(str(path))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ServeError(
            f"the control listener can't have {path}: {error.strerror}",
            fix=f"mkdir -p {path.parent}",
        ) from None
    finally:
        os.umask(before)
    return listener


def _drop_stale(path: Path) -> None:
    """Remove the socket of a service that is no more.

    Raises:
        ServeError: someone listens on it.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except OSError:
            path.unlink()
            return
    raise ServeError(f"another service listens on {path}", fix="systemctl status zfsiscsi")


def _listen(address: str, port: int, what: str) -> socket.socket:
    # With its protocol named: without asyncio does not set TCP_NODELAY on what it accepts
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        # Nobody gets in until the fleet is open: connections wait in the queue.
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ServeError(
            f"the {what} listener can't have {address}:{port}: {error.strerror}",
            fix="is another service running, and does this server have the address? "
            f"ss -ltnp 'sport = :{port}'",
        ) from None
    return listener
