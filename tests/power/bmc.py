"""A real BMC on 127.0.0.1: OpenIPMI's ipmi_sim, in front of a machine that is two files."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from cuckoo_zfsiscsi.config import PowerUrl
from cuckoo_zfsiscsi.power.ipmi import Ipmi, connect
from tests.waiting import wait

LAN = """\
name "bmc"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcde1
  endlan
  chassis_control "{folder}/chassis"
  user 1 true "" "" user 10 none md2 md5 straight
  user 2 true "admin" "{password}" admin 10 none md2 md5 straight
"""

EMULATION = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
"""

CHASSIS = """\
#!/bin/sh
# Called as: chassis get power | chassis set power 1
cd {folder}
echo "$(date +%s.%N) $*" >>commands
[ -e slow ] && sleep "$(cat slow)"
[ -e crash ] && exit 1
case "$1 $2" in
"get power") echo "power:$(cat power)" ;;
"set power")
    if [ "$3" = 0 ] && [ -e stays_on ]; then exit 0; fi
    if [ -e deaf ]; then rm deaf; exit 0; fi
    echo "$3" >power ;;
esac
exit 0
"""


class Bmc:
    """One simulator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.password = secrets.token_hex(8)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        self.power = "0"
        (folder / "lan").write_text(
            LAN.format(port=self.port, folder=folder, password=self.password)
        )
        (folder / "lan").chmod(0o600)
        (folder / "emulation").write_text(EMULATION)
        (folder / "commands").touch()
        chassis = folder / "chassis"
        chassis.write_text(CHASSIS.format(folder=folder))
        chassis.chmod(0o755)

    @property
    def power(self) -> str:
        """State of the machine: "0" or "1"."""
        return (self.folder / "power").read_text().strip()

    @power.setter
    def power(self, state: str) -> None:
        (self.folder / "power").write_text(state)

    def fault(self, name: str, value: str = "") -> None:
        """Begin a fault: slow (seconds), crash, stays_on, deaf (ignores one request)."""
        (self.folder / name).write_text(value)

    def commands(self) -> list[tuple[float, str]]:
        """When the chassis was asked for what."""
        lines = (self.folder / "commands").read_text().splitlines()
        return [(float(at), what) for at, what in (line.split(" ", 1) for line in lines)]

    def asked(self, what: str) -> int:
        """How many commands began so."""
        return sum(command.startswith(what) for _, command in self.commands())

    def url(self, *, user: str = "admin", **options: str) -> PowerUrl:
        """Return its power URL, with the one cipher suite that it has.

        It is as patient as a busy machine needs it, or as the options say.
        """
        all_options = {"cipher": "3", "timeout": "60", "tries": "1", **options}
        return PowerUrl("ipmi", "127.0.0.1", user, self.port, all_options)

    def driver(self, *, user: str = "admin", password: str | None = None, **options: str) -> Ipmi:
        """Return a driver of it, as url() has it."""
        secret = SecretStr(self.password if password is None else password)
        return connect(self.url(user=user, **options), secret)

    def start(self) -> None:
        """Switch the BMC itself on."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["ipmi_sim", "-n", "-c", "lan", "-f", "emulation", "-s", str(self.folder)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait(self._gives_sessions, what="ipmi_sim gives no session", seen=self._log)

    def _log(self) -> str:
        return (self.folder / "log").read_text()

    def _gives_sessions(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log()
        wanted = f"0100007F:{self.port:04X}"
        if not any(wanted in line for line in Path("/proc/net/udp").read_text().splitlines()):
            return False
        command = f"ipmitool -I lanplus -H 127.0.0.1 -p {self.port} -U admin -E -C 3 mc info"
        environ = {**os.environ, "IPMITOOL_PASSWORD": self.password}
        return (
            subprocess.run(
                command.split(), env=environ, capture_output=True, check=False
            ).returncode
            == 0
        )

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Make it deaf and dumb, as a BMC that hangs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Switch the BMC itself off."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def free_port() -> int:
    """Return a UDP port of 127.0.0.1 that nobody has at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
