"""One lab: a network, an emulated host behind a BMC, and the service, brought up and taken down."""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from cuckoo_zfsiscsi.cape.client import Client
from cuckoo_zfsiscsi.errors import LabError, ZfsIscsiError
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab import qemu
from cuckoo_zfsiscsi.lab.bmc import Bmc
from cuckoo_zfsiscsi.lab.qemu import Firmware

LABEL = "host1"
FOLDER = Path("/var/tmp")  # noqa: S108 - a folder with a random name of our own is made in it
PREFIX = "zfsiscsi-lab-"
START_TIMEOUT = 30.0
"""Seconds within which the service must answer."""
STOP_TIMEOUT = 40.0

CONF = """\
[zfsiscsi]
machines = {label}
interface = {bridge}
service = unix://{at}/api.sock
run_dir = {at}/run
start_timeout = 200
stop_timeout = 30

[storage]
path = {at}/store
portal = {server}
iqn = iqn.2026-01.org.example

[netboot]
interface = {bridge}
address = {server}/24
ra_prefix = {ra}

[{label}]
label = {label}
platform = linux
arch = x64
ip = {ip}
snapshot = golden
mac = {mac}
firmware = {firmware}
power = {power}
power_password_file = {at}/bmc.password
# An emulated BMC needs no rest between two commands.
power_interval = 0.1
boot_timeout = 150
prewarm = {prewarm}
"""


class Lab:
    """A lab with one host. As a context: whatever happens, nothing of it stays.

    Args:
        golden: disk of the guest, not changed.
        firmware: of the host.
        prewarm: as in zfsiscsi.conf.
        say: told what is being done, a few words each.
    """

    def __init__(
        self, golden: Path, firmware: Firmware, *, prewarm: bool, say: Callable[[str], None]
    ) -> None:
        self.at = Path(tempfile.mkdtemp(prefix=PREFIX, dir=FOLDER))
        self.conf = self.at / "zfsiscsi.conf"
        self.log = self.at / "service.log"
        self.network = net.Network(self.at.name)
        self.machine = qemu.create(self.at / LABEL, 1, firmware, self.network)
        self.client = Client(f"unix://{self.at}/api.sock")
        self.kept = False
        self.golden = golden
        self._say = say
        self._password = secrets.token_hex(8)
        self._bmc = Bmc(self.machine, 1, self.network, password=self._password)
        self._write_conf(firmware, prewarm)
        self._service: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Lab:
        with ExitStack() as undo:
            undo.callback(remove, self.at.name)
            self._say("network namespace")
            self.network.up()
            self._say("BMC: ipmi_sim")
            self._bmc.start()
            undo.callback(self._bmc.stop)
            self._say("golden image: zfsiscsi image import")
            self.zfsiscsi("image", "import", "golden", str(self.golden))
            self._say("service: zfsiscsi serve")
            undo.callback(self.stop_service)
            self.start_service()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        if not self.kept:
            self._undo.close()

    def zfsiscsi(self, *words: str) -> str:
        """Run the command line in the lab's network; return what it printed.

        Raises:
            LabError: it failed.
        """
        argv = [*self.network.prefix, sys.executable, "-m", "cuckoo_zfsiscsi"]
        done = subprocess.run(
            [*argv, "--conf", str(self.conf), *words],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            raise LabError(f"zfsiscsi {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def start_service(self) -> None:
        """Start the service; return when it answers.

        Raises:
            LabError: it does not.
        """
        argv = [*self.network.prefix, sys.executable, "-m", "cuckoo_zfsiscsi"]
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C is for the lab, which ends it in order.
            self._service = subprocess.Popen(
                [*argv, "--conf", str(self.conf), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end and self._service.poll() is None:
            with suppress(ZfsIscsiError):
                self.client.hosts()
                return
            time.sleep(0.1)
        said = self.log.read_text(errors="replace").strip().split("\n")[-3:]
        raise LabError("the service does not answer: " + " / ".join(said))

    def stop_service(self) -> None:
        """End the service, which switches its host off first."""
        if self._service is None or self._service.poll() is not None:
            return
        self._service.send_signal(signal.SIGTERM)
        try:
            self._service.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._service.kill()  # all that it started goes with the network
            self._service.wait()

    def _write_conf(self, firmware: Firmware, prewarm: bool) -> None:
        password = self.at / "bmc.password"
        password.touch(0o600)
        password.write_text(f"{self._password}\n")
        self.conf.write_text(
            CONF.format(
                at=self.at,
                label=LABEL,
                bridge=net.BRIDGE,
                server=net.SERVER.ip,
                ra=net.RA_PREFIX,
                ip=net.host_address(1),
                mac=net.mac(1),
                firmware=firmware,
                power=self._bmc.url,
                prewarm="yes" if prewarm else "no",
            )
        )


def remove(name: str) -> None:
    """End and remove a lab by its name, also one that was killed or kept."""
    net.Network(name).down()
    folder = FOLDER / name
    if folder.is_dir():
        # Sealed images can't be deleted, not even by root, until this is said.
        subprocess.run(["chattr", "-R", "-f", "-i", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def leftovers() -> list[str]:
    """Names of the labs that are there, running or not."""
    return sorted({*net.leftovers(), *(path.name for path in FOLDER.glob(f"{PREFIX}*"))})
