"""The BMC in front of an emulated host: OpenIPMI's ipmi_sim, IPMI 2.0 over LAN (RMCP+)."""

from __future__ import annotations

import re
import shlex
import sys
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType

import cuckoo_zfsiscsi
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.command import HANG, run
from cuckoo_zfsiscsi.lab.logged import Logged
from cuckoo_zfsiscsi.lab.machine import Machine

PORT = 623
CIPHER = 3
"""ipmi_sim has no cipher suite 17, the default of ipmitool."""

LAN = """\
name "{name}"
set_working_mc 0x20
  startlan 1
    addr {address} {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa1234567{number:08x}
  endlan
  chassis_control "{chassis}"
  user 1 true "" "" user 10 none md2 md5 straight
  user 2 true "{user}" "{password}" admin 10 none md2 md5 straight
"""
EMU = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
"""


class Bmc:
    """One BMC, in the lab's network.

    Args:
        machine: the host that it switches.
        number: 1, 2, ...: decides about its address, see lab.network.
        network: where it listens.
        user: who may log in.
        password: 1 to 16 letters, digits or . _ + - (what ipmi_sim can read).
    """

    def __init__(
        self,
        machine: Machine,
        number: int,
        network: net.Network,
        *,
        user: str = "admin",
        password: str,
    ) -> None:
        if not re.fullmatch(r"[\w.+-]{1,16}", password, re.ASCII):
            raise LabError("a BMC's password has 1 to 16 letters, digits or . _ + -")
        self.machine = machine
        self.number = number
        self.user = user
        self._password = password
        self._network = network
        self.folder = machine.state / "bmc"
        argv = ["ipmi_sim", "-n", "-c", str(self.folder / "lan.conf")]
        argv += ["-f", str(self.folder / "emu"), "-s", str(self.folder)]
        self._daemon = Logged(
            [*network.prefix, *argv],
            self.folder / "log",
            self.folder / "pid",
            name="ipmi_sim",
            install="apt-get install openipmi",
        )

    @property
    def address(self) -> IPv4Address:
        """Where it listens."""
        return net.bmc_address(self.number)

    @property
    def url(self) -> str:
        """As `power` of a host in zfsiscsi.conf."""
        return f"ipmi://{self.user}@{self.address}:{PORT}?cipher={CIPHER}"

    def start(self) -> None:
        """Start it; return when it answers.

        Raises:
            LabError: it does not.
            DeadlineExceededError: not in time.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        # -S, -E: without site packages and the environment Python starts in half the time
        module = [sys.executable, "-S", "-E", "-m", "cuckoo_zfsiscsi.lab.chassis"]
        above = Path(cuckoo_zfsiscsi.__file__).parents[1]
        script = self.folder / "chassis"
        script.write_text(
            f"#!/bin/sh\ncd {shlex.quote(str(above))} &&\n"
            f'exec {shlex.join([*module, str(self.machine.state)])} "$@"\n'
        )
        script.chmod(0o700)
        lan = self.folder / "lan.conf"
        lan.touch(0o600)
        lan.write_text(
            LAN.format(
                name=f"bmc{self.number}",
                address=self.address,
                port=PORT,
                number=self.number,
                chassis=shlex.quote(str(script)),
                user=self.user,
                password=self._password,
            )
        )
        (self.folder / "emu").write_text(EMU)
        self._daemon.start(Deadline(HANG), self._answers)

    def stop(self) -> None:
        """End it. The host stays as it is."""
        self._daemon.stop(Deadline(5.0))

    def __enter__(self) -> Bmc:
        self.start()
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        self.stop()

    def ipmitool(self, *command: str, timeout: float = HANG) -> str:
        """Ask it as a user would; return what ipmitool printed.

        Raises:
            LabError: it refused, or did not answer.
        """
        argv = ["ipmitool", "-I", "lanplus", "-C", str(CIPHER), "-E"]
        argv += ["-H", str(self.address), "-p", str(PORT), "-U", self.user, *command]
        secret = {"IPMI_PASSWORD": self._password}
        return run([*self._network.prefix, *argv], timeout=timeout, env=secret)

    def _answers(self) -> bool:
        try:
            return "System" in self.ipmitool("-N", "1", "-R", "1", "mc", "guid", timeout=20.0)
        except LabError:
            return False
