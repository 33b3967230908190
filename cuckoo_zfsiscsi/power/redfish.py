"""Redfish by sushy.

URL: redfish://USER@BMC:PORT?system=ID&fingerprint=SHA256&ca=FILE&boot=network. redfish+http://
does without TLS, for emulators: the password is seen on the wire. Sushy is loaded when it is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ConfigError
from cuckoo_zfsiscsi.power import Can, PowerState
from cuckoo_zfsiscsi.power.options import check_options, need_secret
from cuckoo_zfsiscsi.power.patient import Patient

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cuckoo_zfsiscsi.config import PowerUrl

T = TypeVar("T")
SYSTEMS = "/redfish/v1/Systems"
OPTIONS = {
    "system": (r"[\w./:-]+", "the system's Id, or its path, as /redfish/v1/Systems shows it"),
    "fingerprint": (r"([0-9A-Fa-f]{2}:?){32}", "the SHA-256 of the BMC's certificate"),
    "ca": (r"/.+", "a file with the certificate to trust"),
    "boot": (r"network", "network"),
}


def connect(url: PowerUrl, secret: SecretStr | None) -> Redfish:
    """Return the driver of one system; nothing is sent yet.

    Raises:
        ConfigError: the URL or the password can't be used with Redfish.
    """
    secret = need_secret(url, secret)
    check_options(url, OPTIONS)
    if url.scheme not in ("redfish", "redfish+http"):
        raise ConfigError(f"power = {url}: no such driver", fix="redfish:// or redfish+http://")
    return (AimedRedfish if "boot" in url.options else Redfish)(url, secret)


class Redfish:
    """One system of one BMC."""

    can = Can()

    def __init__(self, url: PowerUrl, secret: SecretStr) -> None:
        self._plain = url.scheme.endswith("+http")
        self.host, self.port = url.host, url.port or (80 if self._plain else 443)
        where = f"[{url.host}]" if ":" in url.host else url.host
        self.peer = f"redfish://{where}:{self.port}"
        self._base = f"{'http' if self._plain else 'https'}://{where}:{self.port}"
        self._user = url.user or ""
        self._secret = secret
        self._options = url.options
        self._patient = Patient()
        self._http: Any = None
        self._system: Any = None

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        """Ask for on or off, as Driver has it."""

        def ask(system: Any, _fresh: bool) -> None:  # noqa: ANN401 - sushy has no types
            import sushy

            allowed = system.get_allowed_reset_system_values()
            on = sushy.RESET_TYPE_ON
            if on not in allowed and sushy.RESET_TYPE_FORCE_ON in allowed:
                on = sushy.RESET_TYPE_FORCE_ON
            try:
                system.reset_system(on if state is PowerState.ON else sushy.RESET_TYPE_FORCE_OFF)
            except sushy.exceptions.HTTPError as error:
                # Many refuse "off" when it is off, each with a status of its own: look then.
                if not 400 <= error.status_code < 500 or error.status_code in (401, 403, 404):
                    raise
                if _read(system, False) is not state:
                    raise

        self._ask(f"power {state.value}", deadline, ask)

    def query(self, *, deadline: Deadline) -> PowerState:
        """Ask for the state, as Driver has it."""
        return self._ask("power status", deadline, _read)

    def _ask(self, what: str, deadline: Deadline, command: Callable[[Any, bool], T]) -> T:
        """Run one command with the system's description, which is read once and kept."""
        import sushy

        from cuckoo_zfsiscsi.power.redfish_failure import classify

        what = f"{self.peer} as {self._user}: {what}"

        def work() -> T:
            self._http.deadline = deadline
            fresh = self._system is None
            if fresh:
                self._system = self._find()
            return command(self._system, fresh)

        if self._http is None:
            self._http = self._make_http()
        try:
            return self._patient.call(what, deadline, work)
        except (sushy.exceptions.SushyError, ValueError, KeyError, AttributeError, TypeError) as e:
            self._system = None  # it may be another one by now
            raise classify(what, e, self) from None

    def _find(self) -> Any:  # noqa: ANN401 - sushy has no types
        import sushy
        from sushy.resources.system.system import System, SystemCollection

        identity = self._options.get("system", "")
        if not identity:
            members = SystemCollection(self._http, SYSTEMS).members_identities
            if len(members) != 1:
                raise sushy.exceptions.UnknownDefaultError(
                    entity="system", error=", ".join(path.split("/")[-1] for path in members)
                )
            identity = members[0]
        path = identity if identity.startswith("/") else f"{SYSTEMS}/{identity}"
        return System(self._http, path)

    def _make_http(self) -> Any:  # noqa: ANN401 - loaded when it is used
        from cuckoo_zfsiscsi.power.redfish_http import Http

        pin = re.sub(":", "", self._options.get("fingerprint", "")).lower()
        return Http(self._base, self._user, self._secret, self._options.get("ca"), pin)


class AimedRedfish(Redfish):
    """One that is told before each power-on to boot from the network, once."""

    def aim(self, *, deadline: Deadline) -> None:
        """Make the network the next boot's device, as Aimed has it."""

        def ask(system: Any, _fresh: bool) -> None:  # noqa: ANN401 - sushy has no types
            import sushy

            system.set_system_boot_options(
                target=sushy.BOOT_SOURCE_TARGET_PXE, enabled=sushy.BOOT_SOURCE_ENABLED_ONCE
            )

        self._ask("next boot from the network", deadline, ask)


def _read(system: Any, fresh: bool) -> PowerState:  # noqa: ANN401 - sushy has no types
    """Read the state; PoweringOn and PoweringOff count as on."""
    import sushy

    if not fresh:
        system.refresh(force=True)
    known = {
        sushy.SYSTEM_POWER_STATE_ON: PowerState.ON,
        sushy.SYSTEM_POWER_STATE_POWERING_ON: PowerState.ON,
        sushy.SYSTEM_POWER_STATE_POWERING_OFF: PowerState.ON,
        sushy.SYSTEM_POWER_STATE_OFF: PowerState.OFF,
    }
    if system.power_state not in known:
        raise sushy.exceptions.MalformedAttributeError(
            attribute="PowerState", resource=system.path, error=str(system.power_state)[:40]
        )
    return known[system.power_state]
