"""Peers of a probe: a real endpoint mapper in a network of its own, and guests that misbehave."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from cuckoo_zfsiscsi.lab.guest_root import CAPE_AGENT, FILES
from tests.waiting import HANG, wait

CLONE_NEWNET = 0x40000000
GUEST = "10.99.0.11"
SAMBA = "/usr/libexec/samba"
SMB_CONF = """\
[global]
 server role = standalone
 rpc start on demand helpers = no
 interfaces = lo
 disable netbios = yes
 load printers = no
 printing = bsd
 printcap name = /dev/null
 log file = {folder}/log
 pid directory = {folder}
 lock directory = {folder}
 state directory = {folder}
 cache directory = {folder}
 private dir = {folder}
 ncalrpc dir = {folder}/ncalrpc
"""

T = TypeVar("T")


class Network:
    """A network namespace with nothing but lo."""

    def __init__(self) -> None:
        self.name = f"probe-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._path = f"/run/netns/{self.name}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)

    def delete(self) -> None:
        """Drop it."""
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def prefix(self) -> list[str]:
        """Return what begins a command in it."""
        return ["nsenter", f"--net={self._path}"]

    def guest(self, etc: Path) -> list[str]:
        """Give it a card with a guest's address; return what begins a command of that guest's.

        Args:
            etc: folder that the command sees as /etc.
        """
        for words in ("link add eth0 type bridge", f"addr add {GUEST}/24 dev eth0",
                      "link set eth0 up"):  # fmt: skip
            subprocess.run(["ip", "-n", self.name, *words.split()], check=True)
        begin = 'mount --bind "$0" /etc && echo guest >/proc/sys/kernel/hostname && exec "$@"'
        return [*self.prefix(), "unshare", "--mount", "--uts", "sh", "-c", begin, str(etc)]

    def routes(self) -> list[str]:
        """Return its default routes."""
        argv = ["ip", "-n", self.name, "route", "show", "default"]
        return [line.strip() for line in subprocess.check_output(argv, text=True).splitlines()]

    def run(self, job: Callable[[], T]) -> T:
        """Run a function in a thread that lives there."""
        results: list[T] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                with Path(self._path).open() as namespace:
                    libc = ctypes.CDLL(None, use_errno=True)
                    assert libc.setns(namespace.fileno(), CLONE_NEWNET) == 0, ctypes.get_errno()
                results.append(job())
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]


@contextlib.contextmanager
def endpoint_mapper(network: Network, folder: Path) -> Iterator[None]:
    """Run Samba's, on TCP 135 there."""
    folder.mkdir()
    (folder / "smb.conf").write_text(SMB_CONF.format(folder=folder))
    command = [f"{SAMBA}/samba-dcerpcd", f"--configfile={folder}/smb.conf", "--foreground"]
    command += ["--no-process-group", f"{SAMBA}/rpcd_epmapper", f"{SAMBA}/rpcd_winreg"]
    process = subprocess.Popen(
        [*network.prefix(), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait(
            lambda: process.poll() is not None or network.run(lambda: accepts("127.0.0.1", 135)),
            what="samba-dcerpcd does not listen",
            seen=lambda: "\n".join(log.read_text()[-2000:] for log in folder.glob("log*")),
        )
        assert process.poll() is None, "samba-dcerpcd ended"
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def capes_agent() -> Path:
    """Return CAPE's own."""
    root = os.environ.get("CAPE_ROOT") or pytest.fail("set CAPE_ROOT to a checkout of CAPE")
    return Path(root) / CAPE_AGENT


AGENTS = [
    pytest.param(lambda: FILES / "agent.py", id="stand-in"),
    pytest.param(capes_agent, id="cape", marks=pytest.mark.cape),
]
"""What gives the program: the lab's, and where there is a checkout of CAPE, that one's."""


@contextlib.contextmanager
def cape_agent(
    network: Network, program: Path, etc: Path, *, hosts: str = "127.0.1.1 guest\n"
) -> Iterator[str]:
    """Run an agent there as in a guest, with a /etc of its own; give the guest's address.

    Args:
        network: gets a card with the address.
        program: the agent: CAPE's, or the lab's stand-in for it.
        etc: folder that it sees as /etc; made if it is not there.
        hosts: what is in its /etc/hosts.
    """
    etc.mkdir(exist_ok=True)
    (etc / "hosts").write_text(hosts)
    process = subprocess.Popen([*network.guest(etc), sys.executable, str(program)])
    try:
        wait(
            lambda: process.poll() is not None or network.run(lambda: accepts(GUEST, 8000)),
            what=f"{program} does not listen",
        )
        assert process.poll() is None, f"{program} ended"
        yield GUEST
    finally:
        process.kill()
        process.wait()


def accepts(address: str, port: int) -> bool:
    """Tell whether the port is open."""
    with socket.socket() as one:
        return one.connect_ex((address, port)) == 0


@contextlib.contextmanager
def guest(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one connection on 127.0.0.1 in this way; give the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the probe hung up, or never came
                connection, _ = listener.accept()
                with connection:
                    behave(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(HANG)
        assert not thread.is_alive()


def says(*parts: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    """Behave so: read a little, send the parts with pauses, hang up."""

    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)

    return behave


def silent(connection: socket.socket) -> None:
    """Behave so: read until the probe hangs up, say nothing."""
    while connection.recv(4096):
        pass


def dribble(text: bytes, pause: float = 0.02) -> Callable[[socket.socket], None]:
    """Behave so: one byte now and then, for ever."""

    def behave(connection: socket.socket) -> None:
        for byte in text:
            connection.sendall(bytes([byte]))
            time.sleep(pause)
        while True:
            connection.sendall(b"x")
            time.sleep(pause)

    return behave
