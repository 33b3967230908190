"""Intel AMT before release 9 by amttool (Debian's amtterm): later ones have no SOAP any more.

URL: amt://admin@ADDRESS:PORT?boot=network. The password reaches amttool through its environment.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import (
    ConfigError,
    PowerError,
    RefusedPowerError,
    TransientPowerError,
)
from cuckoo_zfsiscsi.power import Can, PowerState
from cuckoo_zfsiscsi.power.child import Outcome, run
from cuckoo_zfsiscsi.power.options import check_options, need_secret

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cuckoo_zfsiscsi.config import PowerUrl

INSTALL = "apt install amtterm libsoap-lite-perl"
OPTIONS = {"boot": (r"network", "network")}
OFF = ("S5 (soft-off)", "S4/S5", "Off")
ON = ("S0", "S1", "S2", "S3")
"""A host that sleeps can wake by itself. S4 alone, hibernation, is neither."""


def connect(url: PowerUrl, secret: SecretStr | None) -> Amt:
    """Return the driver of one host; nothing is sent yet.

    Raises:
        ConfigError: the URL or the password can't be used.
    """
    secret = need_secret(url, secret)
    check_options(url, OPTIONS)
    if url.user != "admin":
        raise ConfigError(f"power = {url}: amttool knows no other user", fix="amt://admin@...")
    return Amt(url, secret)


class Amt:
    """One host's management engine."""

    can = Can()

    def __init__(self, url: PowerUrl, secret: SecretStr) -> None:
        self._where = f"{url.host}:{url.port or 16992}"
        self.peer = f"amt://{self._where}"
        self._secret = secret
        self._special = ["pxe"] if "boot" in url.options else []

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        """Ask for on or off, as Driver has it."""
        on = state is PowerState.ON
        words = ["powerup", *self._special] if on else ["powerdown"]
        self._run(words, r"^result: pt_status: (success)$", deadline)

    def query(self, *, deadline: Deadline) -> PowerState:
        """Ask for the state, as Driver has it. Fails closed."""
        said = self._run(["info"], r"^Powerstate:\s+(.*\S)\s*$", deadline)
        if said not in ON + OFF:
            raise PowerError(f"{self.peer}: it says {said[:40]!r}")
        return PowerState.ON if said in ON else PowerState.OFF

    def _run(self, words: list[str], answer: str, deadline: Deadline) -> str:
        what = f"{self.peer}: {' '.join(words)}"
        secret = self._secret.get_secret_value()
        outcome = run(
            ["amttool", self._where, *words],
            secrets={"AMT_PASSWORD": secret},
            install=INSTALL,
            deadline=deadline,
            what=what,
            stdin="y\n",  # it asks whether we are sure
        )
        if found := re.search(answer, outcome.stdout, re.MULTILINE):
            return found[1]
        raise _classify(what, outcome, secret)


def _classify(what: str, outcome: Outcome, secret: str) -> PowerError:
    """Return the error for a failed command; amttool's exit code says nothing."""
    text = (outcome.stdout + outcome.stderr).replace(secret, "***")
    if "401" in text or "403" in text:
        return RefusedPowerError(
            f"{what}: the password is refused", fix="try it: the host's AMT page"
        )
    if "SOAP/Lite.pm" in text and "locate" in text:
        return PowerError(f"{what}: amttool lacks Perl's SOAP::Lite", fix=INSTALL)
    if re.search(r"Can't connect|Connection refused|timeout|\b50[0234]\b", text):
        return TransientPowerError(
            f"{what}: AMT does not answer", fix="ping it; is TCP 16992 open, and AMT switched on?"
        )
    said = (re.findall(r"^(?:result: )?(.*\S)\s*$", text, re.MULTILINE) or ["nothing"])[-1]
    return PowerError(
        f"{what}: amttool said {said[:160]!r}",
        fix="AMT from release 9 on has no SOAP: use command:// with a tool for WS-Management",
    )
