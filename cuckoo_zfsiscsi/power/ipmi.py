"""IPMI 2.0 over the network (RMCP+) by ipmitool.

URL: ipmi://USER@BMC:PORT?cipher=3&level=operator&timeout=5&tries=2&boot=network. The password
reaches ipmitool through its environment alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ConfigError
from cuckoo_zfsiscsi.power import Can, PowerState
from cuckoo_zfsiscsi.power.child import run
from cuckoo_zfsiscsi.power.ipmi_failure import classify
from cuckoo_zfsiscsi.power.options import check_options, need_secret

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cuckoo_zfsiscsi.config import PowerUrl

INSTALL = "apt install ipmitool"
OPTIONS = {
    "cipher": (r"\d|1[0-7]", "a cipher suite, 0 to 17"),
    "level": (r"user|operator|administrator", "user, operator or administrator"),
    "timeout": (r"[1-9]\d?", "seconds until one packet is sent again, 1 to 99"),
    "tries": (r"[1-9]", "how often one packet is sent, 1 to 9"),
    "boot": (r"network|network-uefi", "network, or network-uefi on a host with UEFI"),
}
IPMITOOL = {"cipher": "-C", "level": "-L", "timeout": "-N", "tries": "-R"}
"""URL option: ipmitool's own."""
DEFAULTS = {"timeout": "5", "tries": "2"}
"""ipmitool's own (1 s, 4 times) floods a BMC that is only slow."""
ALREADY = "^Set Chassis Power Control to .*: Command not supported in present state$"
"""Completion code D5h: how some BMCs answer "off" when it is off. The proof decides."""


def connect(url: PowerUrl, secret: SecretStr | None) -> Ipmi:
    """Return the driver of one BMC; nothing is sent yet.

    Raises:
        ConfigError: the URL or the password can't be used with IPMI.
    """
    secret = need_secret(url, secret)
    check_options(url, OPTIONS)
    if not 0 < len(secret.get_secret_value().encode()) <= 20:
        raise ConfigError(
            f"power = {url}: the password is empty or longer than IPMI's 20 bytes",
            fix="set another password in the BMC and in power_password_file",
        )
    options = {**DEFAULTS, **url.options}
    aim = options.pop("boot", "")
    where = (url.host, url.port or 623, url.user or "")
    return AimedIpmi(*where, secret, options, aim) if aim else Ipmi(*where, secret, options)


class Ipmi:
    """One BMC."""

    can = Can()

    def __init__(
        self, host: str, port: int, user: str, secret: SecretStr, options: dict[str, str]
    ) -> None:
        self.peer = f"ipmi://[{host}]:{port}" if ":" in host else f"ipmi://{host}:{port}"
        self._user = user
        self._secret = secret
        # -v: only then ipmitool says why there is no session (1.8.19).
        self._argv = ["ipmitool", "-v", "-I", "lanplus", "-H", host, "-p", str(port)]
        self._argv += ["-U", user, "-E"]
        for name, value in options.items():
            self._argv += [IPMITOOL[name], value.upper()]

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        """Ask for on or off, as Driver has it."""
        answer = {PowerState.ON: "Up/On", PowerState.OFF: "Down/Off"}[state]
        self._ask(["power", state.value], f"Chassis Power Control: ({answer})", deadline)

    def query(self, *, deadline: Deadline) -> PowerState:
        """Ask for the state, as Driver has it. Fails closed: only its exact words count."""
        return PowerState(self._ask(["power", "status"], "Chassis Power is (on|off)", deadline))

    def _ask(self, words: list[str], answer: str, deadline: Deadline) -> str:
        what = f"{self.peer} as {self._user}: chassis {' '.join(words)}"
        secret = self._secret.get_secret_value()
        outcome = run(
            [*self._argv, "chassis", *words],
            secrets={"IPMITOOL_PASSWORD": secret},
            install=INSTALL,
            deadline=deadline,
            what=what,
        )
        found = re.findall(f"^{answer}$", outcome.stdout, re.MULTILINE)
        if outcome.code == 0 and len(found) == 1:
            return str(found[0])
        if words[1] != "status" and re.search(ALREADY, outcome.stderr, re.MULTILINE):
            return ""
        raise classify(what, outcome, secret)


class AimedIpmi(Ipmi):
    """One that is told before each power-on to boot from the network, once."""

    def __init__(
        self, host: str, port: int, user: str, secret: SecretStr, options: dict[str, str], aim: str
    ) -> None:
        super().__init__(host, port, user, secret, options)
        self._uefi = ["options=efiboot"] if aim.endswith("uefi") else []

    def aim(self, *, deadline: Deadline) -> None:
        """Make the network the next boot's device, as Aimed has it."""
        self._ask(["bootdev", "pxe", *self._uefi], "Set Boot Device to (pxe)", deadline)
