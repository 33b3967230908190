"""IPMI 2.0 over the network (RMCP+) by ipmitool.

URL: ipmi://USER@BMC:PORT?cipher=3&level=operator&timeout=5&tries=2. The password reaches
ipmitool through its environment alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ConfigError
from cuckoo_zfsiscsi.power import PowerState
from cuckoo_zfsiscsi.power.child import run
from cuckoo_zfsiscsi.power.ipmi_failure import classify

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cuckoo_zfsiscsi.config import PowerUrl

INSTALL = "apt install ipmitool"
OPTIONS = {
    "cipher": (r"\d|1[0-7]", "-C", "a cipher suite, 0 to 17"),
    "level": (r"user|operator|administrator", "-L", "user, operator or administrator"),
    "timeout": (r"[1-9]\d?", "-N", "seconds until one packet is sent again, 1 to 99"),
    "tries": (r"[1-9]", "-R", "how often one packet is sent, 1 to 9"),
}
"""URL option: what it may be, ipmitool's option, and the same in words."""
DEFAULTS = {"timeout": "5", "tries": "2"}
"""ipmitool's own (1 s, 4 times) floods a BMC that is only slow."""
ALREADY = "^Set Chassis Power Control to .*: Command not supported in present state$"
"""Completion code D5h: how some BMCs answer "off" when it is off. The proof decides."""


def connect(url: PowerUrl, secret: SecretStr | None) -> Ipmi:
    """Return the driver of one BMC; nothing is sent yet.

    Raises:
        ConfigError: the URL or the password can't be used with IPMI.
    """
    if not url.user:
        raise ConfigError(f"power = {url}: no user", fix=f"power = ipmi://USER@{url.host}")
    if secret is None:
        raise ConfigError(
            f"power = {url}: no password",
            fix="set power_password_file (a file of root, mode 0600) in the host's section",
        )
    if not 0 < len(secret.get_secret_value().encode()) <= 20:
        raise ConfigError(
            f"power = {url}: the password is empty or longer than IPMI's 20 bytes",
            fix="set another password in the BMC and in power_password_file",
        )
    options = {**DEFAULTS, **url.options}
    for name, value in options.items():
        if name not in OPTIONS:
            raise ConfigError(
                f"power = {url}: ipmi has no option {name}", fix=f"use only {', '.join(OPTIONS)}"
            )
        pattern, _, words = OPTIONS[name]
        if not re.fullmatch(pattern, value):
            raise ConfigError(f"power = {url}: {name} is not right", fix=f"{name} is {words}")
    return Ipmi(url.host, url.port or 623, url.user, secret, options)


class Ipmi:
    """One BMC."""

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
            self._argv += [OPTIONS[name][1], value.upper()]

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        """Ask for on or off, as Driver has it."""
        answer = {PowerState.ON: "Up/On", PowerState.OFF: "Down/Off"}[state]
        self._ask(state.value, f"Chassis Power Control: ({answer})", deadline)

    def query(self, *, deadline: Deadline) -> PowerState:
        """Ask for the state, as Driver has it. Fails closed: only its exact words count."""
        return PowerState(self._ask("status", "Chassis Power is (on|off)", deadline))

    def _ask(self, verb: str, answer: str, deadline: Deadline) -> str:
        what = f"{self.peer} as {self._user}: chassis power {verb}"
        secret = self._secret.get_secret_value()
        outcome = run(
            [*self._argv, "chassis", "power", verb],
            secrets={"IPMITOOL_PASSWORD": secret},
            install=INSTALL,
            deadline=deadline,
            what=what,
        )
        found = re.findall(f"^{answer}$", outcome.stdout, re.MULTILINE)
        if outcome.code == 0 and len(found) == 1:
            return str(found[0])
        if verb != "status" and re.search(ALREADY, outcome.stderr, re.MULTILINE):
            return ""
        raise classify(what, outcome, secret)
