"""Any program: a relay board, Home Assistant, PiKVM.

URL: command:///usr/local/bin/relay?args=--board+2&tell=off. It is run, never by a shell, as
`/usr/local/bin/relay --board 2 ACTION`, ACTION being on, off or status; docs/power.rst has its
environment and exit codes.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ConfigError, PowerError, TransientPowerError
from cuckoo_zfsiscsi.power import Can, PowerState
from cuckoo_zfsiscsi.power.child import run
from cuckoo_zfsiscsi.power.options import check_options

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cuckoo_zfsiscsi.config import PowerUrl

NEEDS_ADDRESS = False
FROM_HOST = {"label": "label", "mac": "mac", "ip": "ip"}
OPTIONS = {
    "args": (r".*", "the program's arguments, quoted as for a shell"),
    "tell": (r"both|off|no", "what its status says of the host: both, off (a relay's), or no"),
    "device": (r"[\w.:-]+", "a name for what the program switches, for hosts that share it"),
    "label": (r".*", "the host's name"),
    "mac": (r".*", "the host's MAC address"),
    "ip": (r".*", "the host's IP address"),
}
TELL = {
    "both": frozenset(PowerState),
    "off": frozenset({PowerState.OFF}),
    "no": frozenset[PowerState](),
}
TEMPORARY = 75
"""Exit code EX_TEMPFAIL (sysexits.h): ask again."""


def connect(url: PowerUrl, secret: SecretStr | None) -> Command:
    """Return the driver; nothing is run yet.

    Raises:
        ConfigError: the URL can't be used.
    """
    check_options(url, OPTIONS)
    if url.host or not url.path.startswith("/"):
        raise ConfigError(
            f"power = {url}: no absolute path of a program", fix="command:///usr/local/bin/relay"
        )
    try:
        arguments = shlex.split(url.options.get("args", ""))
    except ValueError as error:
        raise ConfigError(f"power = {url}: args: {error}", fix="close the quotation") from None
    return Command(url, arguments, secret)


class Command:
    """One program, for one host."""

    def __init__(self, url: PowerUrl, arguments: list[str], secret: SecretStr | None) -> None:
        self._argv = [url.path, *arguments]
        self._secret = secret.get_secret_value() if secret else ""
        self._about = {f"ZFSISCSI_{name.upper()}": url.options.get(name, "") for name in FROM_HOST}
        # Those who share a device wait for each other. By default each command line is one.
        self.peer = f"command://{url.path} " + (url.options.get("device") or shlex.join(arguments))
        self.peer = self.peer.strip()
        self.can = Can(tell=TELL[url.options.get("tell", "both")])

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        """Run it with "on" or "off", as Driver has it."""
        self._run(state.value, deadline)

    def query(self, *, deadline: Deadline) -> PowerState:
        """Run it with "status", as Driver has it. Fails closed: only "on" and "off" count."""
        said = self._run("status", deadline).strip().lower()
        if said not in ("on", "off"):
            raise PowerError(
                f"{self.peer} status: it printed {self._masked(said)!r}",
                fix="it must print on or off, and nothing else",
            )
        return PowerState(said)

    def _run(self, action: str, deadline: Deadline) -> str:
        what = f"{self.peer} {action}"
        outcome = run(
            [*self._argv, action],
            secrets={
                **self._about,
                "ZFSISCSI_ACTION": action,
                "ZFSISCSI_TIMEOUT": f"{deadline.remaining:.0f}",
                "ZFSISCSI_PASSWORD": self._secret,
            },
            install=f"install it, and chmod 755 {self._argv[0]}",
            deadline=deadline,
            what=what,
        )
        if outcome.code == 0:
            return outcome.stdout
        said = (outcome.stderr.strip() or outcome.stdout.strip() or "nothing").splitlines()[-1]
        kind = TransientPowerError if outcome.code == TEMPORARY else PowerError
        raise kind(
            f"{what}: it ended with {outcome.code} and said {self._masked(said)!r}",
            fix=f"try it by hand: {shlex.join([*self._argv, action])}",
        )

    def _masked(self, text: str) -> str:
        return (text.replace(self._secret, "***") if self._secret else text)[:200]
