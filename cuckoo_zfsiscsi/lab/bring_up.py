"""A lab that is up: network, one emulated host with its power device, the service, CAPE's plugin.

Everything lies in one directory, and everything that runs is in the network, so that whoever
finds both can take it down.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import conf, devices, failure, qemu
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.appliance.server import ApplianceServer
from cuckoo_zfsiscsi.lab.cape_standin import Machinery, load_plugin
from cuckoo_zfsiscsi.lab.command import last_words
from cuckoo_zfsiscsi.lab.rom import PlainRom
from cuckoo_zfsiscsi.lab.routes import outside
from cuckoo_zfsiscsi.lab.routes.outside import Outside
from cuckoo_zfsiscsi.lab.routes.route import Route
from cuckoo_zfsiscsi.lab.server import LocalServer, Say, Server, command, make_client
from cuckoo_zfsiscsi.lab.way import DEFAULT, Way
from cuckoo_zfsiscsi.lab.wire import Wire

FOLDER = Path("/var/tmp")  # noqa: S108 - a folder with a random name is made in it
"""Not /tmp, which may be memory: three sparse disks of 400 MB."""
PREFIX = "zfsiscsi-lab-"
CLAIM = 60.0
"""Seconds after which a directory that nobody claimed is nobody's."""

Store = Literal["file", "zfs"]


class Lab:
    """One host or more and all that they need, up from `with` to the end.

    Args:
        firmware: of the emulated hosts.
        store: "file": everything on this machine; "zfs": the storage server is an appliance.
        power: what switches each host.
        prewarm: the service boots the first host, clean, while it is idle.
        image: guest disk to import.
        say: told what is being done.
        way: how the hosts come to their boot script.
        route: of the first host's runs; None: there is nothing beyond the hosts' network.
        more: hosts after the first.
    """

    def __init__(
        self,
        *,
        firmware: qemu.Firmware,
        store: Store = "file",
        power: devices.Kind = "ipmi",
        prewarm: bool,
        image: Path,
        say: Say,
        way: Way = DEFAULT,
        route: Route | None = None,
        more: Sequence[conf.Host] = (),
    ) -> None:
        self.at = Path(tempfile.mkdtemp(prefix=PREFIX, dir=FOLDER))
        self.conf = self.at / "zfsiscsi.conf"
        self.firmware = firmware
        self.way = way
        self.prewarm = prewarm
        self.image = image
        self.more = more
        hosts = 1 + len(more)
        self.network = net.Network(self.at.name, hosts=hosts, is_server=store == "file")
        self.outside = Outside(self.network, self.at, route) if route else None
        _claim(self.at, os.getpid())
        try:
            self.machines = [
                qemu.create(
                    self.at / conf.label(number),
                    number,
                    firmware,
                    self.network,
                    rom=way.rom,
                    extra=host.qemu,
                )
                for number, host in enumerate((conf.Host(), *more), 1)
            ]
        except BaseException:
            remove(self.at)
            raise
        self.machine = self.machines[0]
        self.address = str(net.host_address(1))
        self.client = make_client(self.at)
        self.plugin: Machinery
        self._undo = ExitStack()
        self._say = say
        self._password = secrets.token_hex(8)
        self.devices = [
            devices.make(power, machine, self.network, self._password, number=number)
            for number, machine in enumerate(self.machines, 1)
        ]
        self._roms = [PlainRom(machine, self.network) for machine in self.machines]
        self._wire = Wire(self.network, self.at)
        make = LocalServer if store == "file" else ApplianceServer
        self.server: Server = make(self.at, self.network)

    def up(self) -> None:
        """Make everything, start everything; CAPE's plugin has been initialized at the end.

        Raises:
            LabError, DeadlineExceededError: a part does not work.
        """
        self.server.prepare(self._say)
        self._say("network")
        self.network.up()
        self._wire.start()
        if self.outside:
            self._say(f"route {self.outside.route}")
            self.outside.up()
        self._say("power device")
        for device in self.devices:
            device.start()
        if self.way.rom == "plain":
            for rom in self._roms:
                rom.start()
        first, *others = [device.keys for device in self.devices]
        render = partial(
            conf.render,
            firmware=self.firmware,
            power=first,
            prewarm=self.prewarm,
            way=self.way,
            way_out=self.outside.keys if self.outside else conf.CLOSED,
            network_via=self.network_via,
            more=list(zip(self.more, others, strict=True)),
        )
        self.server.up(self.image, render, self._password, self._say)
        if self.outside:
            self.outside.guard(command(self.at))
        self.client = make_client(self.at)  # with a token, if there is one by now
        self.plugin = load_plugin(self.conf, conf.CAPE_TIMEOUTS)
        self._undo.callback(self.plugin.shutdown)
        self.plugin.initialize()

    @property
    def network_via(self) -> Literal["dhcp", "agent"]:
        """How the hosts' systems are told of the way out: with UEFI as what asks no DHCP."""
        return "agent" if self.outside and self.firmware == "uefi" else "dhcp"

    def keep(self) -> None:
        """Let it live on when this process ends; remove() ends it then."""
        self._undo.pop_all()
        _claim(self.at, 0)

    def seen(self) -> str:
        """Return what there is to see just now, in a line: for a message about a wait in vain."""
        logs = [(f"{one.state.name}'s console", one.console) for one in self.machines]
        logs += [(log.name, log) for log in self.server.logs]
        return "; ".join(f"{name}: {last_words(log)}" for name, log in logs)

    def keep_evidence(self, why: str) -> str:
        """Keep what a failure can be understood from, before anything is taken down; say where.

        Args:
            why: what failed.

        Returns:
            The sentence that was said: it names the folder, or why there is none.
        """
        kept = failure.keep(self.at, why)
        self._say(kept)
        return kept

    def keep_capture(self) -> Path | None:
        """Keep the capture of the host's port; say why not if that fails. None: there is none."""
        try:
            return self.outside.keep() if self.outside else None
        except OSError as error:
            self._say(f"the capture of the host's port could not be kept: {error}")
            return None

    def down(self) -> None:
        """End and remove everything, also when only half of it was made. May be called again."""
        if not self.at.exists():
            return
        try:
            self._undo.close()
            self.server.down()
            for device in self.devices:
                device.stop()
            for machine in self.machines:
                machine.off()
            for rom in self._roms:
                rom.stop()
            self._wire.stop()
            if self.outside:
                self.outside.down()
        finally:
            remove(self.at)

    def __enter__(self) -> Lab:
        try:
            self.up()
        except BaseException as error:
            self._fail(error)
            raise
        return self

    def __exit__(
        self, _t: type[BaseException] | None, error: BaseException | None, _b: TracebackType | None
    ) -> None:
        if error is None:
            self.down()
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Keep what is to be seen of an error, and take everything down whatever comes of that."""
        try:
            failure.note(error, self.keep_evidence(f"{type(error).__name__}: {error}"))
        finally:
            self.down()


def remove(at: Path) -> None:
    """Take down what is left of a lab: what runs in its network, the network, its directory.

    Raises:
        LabError: a process survives, or the directory can't be removed.
    """
    for namespace in (net.Network(at.name), *outside.namespaces(at.name)):
        namespace.down()
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
