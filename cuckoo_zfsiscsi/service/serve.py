"""Runs the service: the fleet, the control API and the boot listener, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.errors import ServeError
from cuckoo_zfsiscsi.netboot.listener import create_app, server_options
from cuckoo_zfsiscsi.service.api import make_api
from cuckoo_zfsiscsi.service.fleet import Fleet

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 3
"""Seconds that open requests get at the end."""

MEND_EVERY = 2.0
"""Seconds between two looks at what must run."""


class _Server(uvicorn.Server):
    """A server among others: signals are handled once, for all of them."""

    def capture_signals(self) -> Any:  # noqa: ANN401 - uvicorn's own is a context manager
        return nullcontext()


def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; then every host is off and fenced.

    Raises:
        ZfsIscsiError: what can't be had at the start; nothing is left running.
    """
    general, netboot = config.zfsiscsi, config.netboot
    general.run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    token = general.read_token()
    control = _control_socket(general.service)
    with control, _listen(str(netboot.address.ip), netboot.boot_port, "boot") as boot:
        fleet = Fleet(config)
        api = make_api(fleet, token.get_secret_value() if token else None)
        pool = ThreadPoolExecutor(len(config.hosts) + 4, thread_name_prefix="request")
        fleet.open()
        try:
            servers = [
                (_server(api, lifespan="off", server_header=False, access_log=False), control),
                (_server(create_app(fleet.boots), **server_options()), boot),
            ]
            asyncio.run(_serve(servers, fleet, pool))
        finally:
            fleet.close()
            log.info("the service has ended")


def _server(app: ASGIApp, **options: Any) -> _Server:  # noqa: ANN401 - uvicorn's options
    options.setdefault("timeout_graceful_shutdown", CLOSE_TIMEOUT)
    return _Server(uvicorn.Config(app, log_config=None, **options))


async def _serve(
    servers: list[tuple[_Server, socket.socket]], fleet: Fleet, pool: ThreadPoolExecutor
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(pool)

    def end() -> None:
        log.info("the service is ending")
        for server, _ in servers:
            server.should_exit = True
        for host in fleet.hosts():
            host.close()  # whoever waits for a host is told at once

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    log.info("serving %d hosts", len(fleet.hosts()))
    mending = asyncio.create_task(_mend(fleet))
    await asyncio.gather(*(server.serve([listener]) for server, listener in servers))
    mending.cancel()


async def _mend(fleet: Fleet) -> None:
    while True:
        await asyncio.sleep(MEND_EVERY)
        await asyncio.to_thread(fleet.mend)


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
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        # Nobody gets in until the fleet is open: connections wait in the queue.
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ServeError(
            f"the {what} listener can't have {address}:{port}: {error.strerror}",
            fix="is another service running, and does this server have the address? "
            f"ss -ltnp 'sport = :{port}'",
        ) from None
    return listener
