"""A refused password is not tried again: devices, and Windows, lock an account after a few.

Who has tried it once knows the answer. A quarantined host is retried for ever, and many hosts may
share a device and its account. So a refusal is remembered for whoever has that account and that
password, and told again at once, until the password is another one (its file is read again then),
a person asks, or the service starts anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from pydantic import SecretStr

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import ConfigError, PowerError, RefusedPowerError
from cuckoo_zfsiscsi.power import Aimed, Can, Driver, PowerState

T = TypeVar("T")

AGAIN = "then ask by hand: zfsiscsi power LABEL status"


class Refusals:
    """Those of this process, by device, user and password. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str, SecretStr], RefusedPowerError] = {}

    def find(self, peer: str, user: str, secret: SecretStr) -> RefusedPowerError | None:
        """Return how this password was refused; None: it was not."""
        with self._lock:
            return self._known.get((peer, user, secret))

    def note(self, peer: str, user: str, secret: SecretStr, error: RefusedPowerError) -> None:
        """Remember that it was."""
        with self._lock:
            self._known[peer, user, secret] = error

    def forget(self, peer: str, user: str) -> None:
        """Forget those of one account: it may be tried once more."""
        with self._lock:
            for key in [key for key in self._known if key[:2] == (peer, user)]:
                del self._known[key]


REFUSALS = Refusals()


class OnceRefused:
    """Implements Driver, by another one that it makes: of a password that may change.

    Args:
        user: of the account, "" if the device knows none.
        read: returns the password as it is now.
        make: returns the driver with a password.
        refusals: that are known.

    Raises:
        ConfigError: there can't be a driver with the password as it is.
    """

    def __init__(
        self,
        user: str,
        read: Callable[[], SecretStr | None],
        make: Callable[[SecretStr | None], Driver],
        refusals: Refusals = REFUSALS,
    ) -> None:
        self._user, self._read, self._make, self._refusals = user, read, make, refusals
        self._secret = read() or SecretStr("")
        self.inner = make(self._secret)

    @property
    def peer(self) -> str:
        """As Driver has it."""
        return self.inner.peer

    @property
    def can(self) -> Can:
        """As Driver has it."""
        return self.inner.can

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        """As Driver has it.

        Raises:
            RefusedPowerError: at once, if this password was refused before.
        """
        self._ask(lambda: self.inner.request(state, deadline=deadline))

    def query(self, *, deadline: Deadline) -> PowerState:
        """As Driver has it, and request()."""
        return self._ask(lambda: self.inner.query(deadline=deadline))

    def forget_refusals(self) -> None:
        """Try it once more: a person asks, who may have unlocked the account."""
        self._refusals.forget(self.peer, self._user)

    def _ask(self, command: Callable[[], T]) -> T:
        if known := self._refusals.find(self.peer, self._user, self._secret):
            self._renew(known)
        try:
            return command()
        except RefusedPowerError as error:
            self._refusals.note(self.peer, self._user, self._secret, error)
            raise

    def _renew(self, refused: RefusedPowerError) -> None:
        """Take the password of now, if that was not refused, too."""
        try:
            secret = self._read() or SecretStr("")
            known = self._refusals.find(self.peer, self._user, secret)
            if secret != self._secret and not known:
                self.inner, self._secret = self._make(secret), secret
                return
        except ConfigError as error:
            raise PowerError(error.what, fix=error.fix) from None
        raise RefusedPowerError(
            f"{refused.what}; it is not tried again, lest the account be locked",
            fix=f"{refused.fix}; {AGAIN}" if refused.fix else AGAIN,
        )


class AimedOnceRefused(OnceRefused):
    """One that can tell the host to boot from the network."""

    def aim(self, *, deadline: Deadline) -> None:
        """As Aimed has it, and request()."""

        def command() -> None:
            if isinstance(self.inner, Aimed):
                self.inner.aim(deadline=deadline)

        self._ask(command)
