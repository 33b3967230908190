"""A lab that is up: network, one emulated host with its BMC, the service, CAPE's plugin.

Everything lies in one directory, and everything that runs is in the network, so that whoever
finds both can take it down.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from cuckoo_zfsiscsi.cape.client import Client, ServiceError
from cuckoo_zfsiscsi.daemon import Daemon
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab import qemu
from cuckoo_zfsiscsi.lab.bmc import Bmc
from cuckoo_zfsiscsi.lab.cape_standin import Machinery, load_plugin
from cuckoo_zfsiscsi.lab.command import into, run

LABEL = "pc1"
IMAGE = "golden"
FOLDER = Path("/var/tmp")  # noqa: S108 - a folder with a random name is made in it
"""Not /tmp, which may be memory: three sparse disks of 400 MB."""
PREFIX = "zfsiscsi-lab-"
CLAIM = 60.0
"""Seconds after which a directory that nobody claimed is nobody's."""
START = 60.0
"""Seconds within which the service must serve."""

CONF = """\
[zfsiscsi]
machines = {label}
interface = {bridge}
service = unix://{at}/api.sock
run_dir = {at}/run

[storage]
path = {at}/store
portal = {server.ip}
iqn = iqn.2026-01.org.example.lab

[netboot]
interface = {bridge}
address = {server}
ra_prefix = {ra_prefix}

[{label}]
label = {label}
platform = linux
arch = x64
ip = {ip}
snapshot = {image}
mac = {mac}
firmware = {firmware}
{boot_file}
power = {power}
power_password_file = {at}/bmc.password
power_interval = 0.2
prewarm = {prewarm}
"""

IMPORT = 300.0
"""Seconds for the import of the golden image, on a slow disk."""

Say = Callable[[str], None]


class Lab:
    """One host and all that it needs, up from `with` to the end.

    Args:
        firmware: of the emulated host.
        prewarm: the service boots the clean host while it is idle.
        image: guest disk to import.
        say: told what is being done.
    """

    def __init__(self, *, firmware: qemu.Firmware, prewarm: bool, image: Path, say: Say) -> None:
        self.at = Path(tempfile.mkdtemp(prefix=PREFIX, dir=FOLDER))
        self.conf = self.at / "zfsiscsi.conf"
        self.log = self.at / "service.log"
        self.firmware = firmware
        self.prewarm = prewarm
        self.image = image
        self.network = net.Network(self.at.name)
        _claim(self.at, os.getpid())
        try:
            self.machine = qemu.create(self.at / LABEL, 1, firmware, self.network)
        except BaseException:
            remove(self.at)
            raise
        self.address = str(net.host_address(1))
        self.client = Client(f"unix://{self.at}/api.sock")
        self.plugin: Machinery
        self._say = say
        self._password = secrets.token_hex(8)
        self._bmc = Bmc(self.machine, 1, self.network, password=self._password)
        serve = self.zfsiscsi("serve")
        self._service = Daemon(
            into(self.log, [*self.network.prefix, *serve]),
            self.at / "service.pid",
            error=LabError,
            fix=f"see {self.log}",
            grace=30.0,
        )

    def zfsiscsi(self, *words: str) -> list[str]:
        """Return the argv of our command line with this lab's configuration."""
        return [sys.executable, "-m", "cuckoo_zfsiscsi", "--conf", str(self.conf), *words]

    def up(self) -> None:
        """Make everything, start everything; CAPE's plugin has been initialized at the end.

        Raises:
            LabError, DeadlineExceededError: a part does not work.
        """
        self._say("network")
        self.network.up()
        self._write_conf()
        self._say("golden image")
        run(self.zfsiscsi("image", "import", IMAGE, str(self.image)), timeout=IMPORT)
        self._say("BMC")
        self._bmc.start()
        self._say("service")
        self._service.start(Deadline(START), self._serves)
        self.plugin = load_plugin(self.conf)
        self.plugin.initialize()

    def keep(self) -> None:
        """Let it live on when this process ends; remove() ends it then."""
        _claim(self.at, 0)

    def down(self) -> None:
        """End and remove everything, also when only half of it was made. May be called again."""
        if not self.at.exists():
            return
        try:
            self._service.stop(Deadline(30.0))
            self._bmc.stop()
            self.machine.off()
        finally:
            remove(self.at)

    def __enter__(self) -> Lab:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        self.down()

    def _serves(self) -> bool:
        try:
            return bool(self.client.hosts())
        except ServiceError:
            return False

    def _write_conf(self) -> None:
        secret = self.at / "bmc.password"
        secret.touch(0o600)
        secret.write_text(f"{self._password}\n")
        self.conf.write_text(
            CONF.format(
                at=self.at,
                label=LABEL,
                image=IMAGE,
                bridge=net.BRIDGE,
                server=net.SERVER,
                ra_prefix=net.RA_PREFIX,
                ip=self.address,
                mac=net.mac(1),
                firmware=self.firmware,
                # The firmware's own NIC driver is there already: 5 s faster than iPXE's here
                boot_file="boot_file = snponly.efi" if self.firmware == "uefi" else "",
                power=self._bmc.url,
                prewarm="yes" if self.prewarm else "no",
            )
        )


def remove(at: Path) -> None:
    """Take down what is left of a lab: what runs in its network, the network, its directory.

    Raises:
        LabError: a process survives, or the directory can't be removed.
    """
    net.Network(at.name).down()
    # The store makes sealed images immutable
    subprocess.run(["chattr", "-R", "-f", "-i", str(at)], check=False, capture_output=True)
    try:
        shutil.rmtree(at)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise LabError(f"{at} can't be removed: {error}", fix=f"rm -r {at}") from error


def leftovers() -> list[Path]:
    """Directories of labs whose program is no more: kept ones, and those of a killed one."""
    return [at for at in sorted(FOLDER.glob(f"{PREFIX}*")) if not _is_claimed(at)]


def _claim(at: Path, pid: int) -> None:
    (at / "owner").write_text(f"{pid} {_born(pid)}\n")


def _is_claimed(at: Path) -> bool:
    """Whether the program that made it still runs, or may be about to claim it."""
    try:
        pid, born = (at / "owner").read_text().split()
    except (OSError, ValueError):
        return time.time() - at.stat().st_mtime < CLAIM
    return bool(_born(int(pid))) and _born(int(pid)) == int(born)


def _born(pid: int) -> int:
    """Return when a process began, in ticks since boot (proc(5), stat); 0 if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])
