"""A soft shutdown of Windows by WinRM (pywinrm): a courtesy before the cut, never trusted.

URL: winrm://USER@ADDRESS:PORT?transport=ntlm&wait=10; without an address (winrm://USER@) it is the
host's own ip. pywinrm is loaded when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import PowerError, RefusedPowerError, TransientPowerError
from cuckoo_zfsiscsi.power import Can, PowerState
from cuckoo_zfsiscsi.power.agent import COMMANDS, WAIT
from cuckoo_zfsiscsi.power.options import check_options, need_secret
from cuckoo_zfsiscsi.power.patient import Patient

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cuckoo_zfsiscsi.config import PowerUrl

NEEDS_ADDRESS = False
FROM_HOST = {"ip": "ip"}
INSTALL = 'pip install "cuckoo-zfsiscsi[winrm]"'
OPTIONS = {
    "transport": (r"ntlm|plaintext|ssl", "ntlm, plaintext or ssl"),
    "ca": (r"/.+", "a file with the certificates to trust, for ssl"),
    "wait": WAIT,
    "ip": (r".*", "the host's address"),
}


def connect(url: PowerUrl, secret: SecretStr | None) -> Winrm:
    """Return the driver of one guest; nothing is sent yet.

    Raises:
        ConfigError: the URL or the password can't be used.
    """
    secret = need_secret(url, secret)
    check_options(url, OPTIONS)
    return Winrm(url, secret)


class Winrm:
    """One guest."""

    def __init__(self, url: PowerUrl, secret: SecretStr) -> None:
        self._transport: Any = url.options.get("transport", "ntlm")  # pywinrm's own words
        tls = self._transport == "ssl"
        self._ca: Any = url.options.get("ca")
        host = url.host or url.options["ip"]
        where = f"{host}:{url.port or (5986 if tls else 5985)}"
        self._endpoint = f"{'https' if tls else 'http'}://{where}/wsman"
        self.peer = f"winrm://{where}"
        self._user = url.user or ""
        self._secret = secret
        self._patient = Patient()
        self.can = Can(
            switch=frozenset({PowerState.OFF}),
            tell=frozenset(),
            courtesy=float(url.options.get("wait", "10")),
        )

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        """Ask the guest to shut down, as Driver has it."""
        if state is PowerState.ON:
            raise PowerError(f"{self.peer}: a guest can't switch its host on")
        what = f"{self.peer} as {self._user}: shutdown"
        try:
            import requests
            from winrm import exceptions
            from winrm.protocol import Protocol
        except ImportError:
            raise PowerError(f"{what}: pywinrm is not installed", fix=INSTALL) from None

        def ask() -> None:
            seconds = max(2, int(deadline.remaining))
            guest = Protocol(
                self._endpoint,
                transport=self._transport,
                username=self._user,
                password=self._secret.get_secret_value(),
                operation_timeout_sec=seconds - 1,
                read_timeout_sec=seconds,
                proxy=None,
                ca_trust_path=self._ca,
            )
            # Neither waited for nor closed: the guest goes down meanwhile.
            guest.run_command(guest.open_shell(), COMMANDS["windows"])

        try:
            self._patient.call(what, deadline, ask)
        except exceptions.InvalidCredentialsError:
            raise RefusedPowerError(f"{what}: the guest refuses user or password") from None
        except (requests.RequestException, exceptions.WinRMError) as error:
            raise TransientPowerError(f"{what}: {type(error).__name__}") from None

    def query(self, *, deadline: Deadline) -> PowerState:
        """Fail: a guest's word counts for nothing. As Driver has it."""
        deadline.check(self.peer)
        raise PowerError(f"{self.peer}: a guest tells no state")
