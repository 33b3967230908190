"""Where dhcpd's hook asks: a host that boots gets its script into the TFTP folder, and is answered.

DHCP is repeated, by iPXE, which waits for an answer, and on the wire: the service knows an echo by
its time, and a late one by the life of the host. Not by the transaction's number (RFC 2131, xid):
iPXE on UEFI has the same one at each boot. dhcpd answers a request also when there is no script for
it: then none of an earlier boot may be left, as its disk is dirty.
"""

from __future__ import annotations

import contextlib
import grp
import os
import re
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.errors import ZfsIscsiError

ANSWER = 8.0
"""Seconds in which the hook is answered: dhcpd answers nobody meanwhile."""
OFFERED = 60.0
"""Seconds for which a script can be fetched."""
LINE = re.compile(r"((?:[0-9a-f]{1,2}:){5}[0-9a-f]{1,2})\n")

Ask = Callable[[str, str], "Future[str] | str | None"]
"""Boots.lookup(): a MAC address, and the IP address that it has."""


class PaperDoor:
    """Listens on a unix socket, and writes scripts.

    Args:
        hosts: all that exist.
        ask: for the script.
        path: of the socket.
        scripts: folder for the scripts, one file for each host's IP address.
    """

    def __init__(self, hosts: Iterable[HostConfig], ask: Ask, path: Path, scripts: Path) -> None:
        self._hosts = {host.mac: host for host in hosts}
        self._ask, self._path, self._scripts = ask, path, scripts
        self._listener: socket.socket | None = None
        self._timers: dict[str, threading.Timer] = {}

    def open(self) -> None:
        """Begin; no script is there.

        Raises:
            OSError: no such folder, or not root.
        """
        self._scripts.mkdir(mode=0o750, exist_ok=True)
        _for_tftp(self._scripts)
        for left in self._scripts.glob("*.ipxe"):
            left.unlink()
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            listener.bind(str(self._path))
        finally:
            os.umask(before)
        listener.listen(16)
        self._listener = listener
        threading.Thread(target=self._serve, args=[listener], name="hook", daemon=True).start()

    def close(self) -> None:
        """End. May be called again."""
        listener, self._listener = self._listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for timer in self._timers.values():
            timer.cancel()

    def _serve(self, listener: socket.socket) -> None:
        while self._listener is listener:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                peer.settimeout(1.0)
                asked = LINE.fullmatch(peer.recv(64).decode("ascii", "replace"))
                is_served = asked is not None and self._is_served(asked[1])
                peer.sendall(b"yes\n" if is_served else b"no\n")

    def _is_served(self, card: str) -> bool:
        mac = ":".join(part.zfill(2) for part in card.split(":"))
        host = self._hosts.get(mac)
        if host is None:
            return False
        found = self._ask(mac, str(host.ip))
        try:
            script = found.result(ANSWER) if isinstance(found, Future) else found
        except (ZfsIscsiError, FutureTimeoutError):
            script = None
        if script is not None:
            self._write(host, script)
            return True
        (self._scripts / f"{host.ip}.ipxe").unlink(missing_ok=True)
        if isinstance(found, Future):  # it may come late
            found.add_done_callback(lambda late: self._write_when_done(host, late))
        return False

    def _write_when_done(self, host: HostConfig, script: Future[str]) -> None:
        if not script.cancelled() and script.exception() is None:
            self._write(host, script.result())

    def _write(self, host: HostConfig, script: str) -> None:
        """Write a script, for TFTP alone to read, and for a while."""
        path = self._scripts / f"{host.ip}.ipxe"
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o640)
        _for_tftp(fresh)
        fresh.write_text(script)
        fresh.rename(path)
        if host.label in self._timers:
            self._timers[host.label].cancel()
        timer = threading.Timer(OFFERED, path.unlink, kwargs={"missing_ok": True})
        timer.daemon = True
        timer.start()
        self._timers[host.label] = timer


def _for_tftp(path: Path) -> None:
    """Let the group of Debian's tftpd-hpa read it."""
    with contextlib.suppress(KeyError):
        os.chown(path, 0, grp.getgrnam("tftp").gr_gid)
