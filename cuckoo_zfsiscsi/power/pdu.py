"""Power strips and smart plugs: every model that labgrid knows, by its name.

URL: pdu+MODEL://USER@ADDRESS:PORT?outlet=1&tls=yes&path=/relay/{index}/value&timeout=10. Labgrid's
models wait without end and keep passwords in URLs, so each call is a process of its own
(pdu_child.py), which reads what is secret from its environment.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.environment import for_python
from cuckoo_zfsiscsi.errors import (
    ConfigError,
    DeadlineExceededError,
    PowerError,
    RefusedPowerError,
    TransientPowerError,
)
from cuckoo_zfsiscsi.power import Can, PowerState
from cuckoo_zfsiscsi.power.child import run
from cuckoo_zfsiscsi.power.options import check_options

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cuckoo_zfsiscsi.config import PowerUrl

INSTALL = 'pip install "cuckoo-zfsiscsi[pdu]"'
MOST = 16
"""Calls at once, of 40 MB each."""
TEMPORARY, REFUSED, MISSING = 75, 77, 69
"""Exit codes of the child (sysexits.h)."""
OPTIONS = {
    "outlet": (r"\d{1,4}", "the outlet's number as the model counts, from 0 or 1"),
    "tls": (r"yes|no", "yes or no"),
    "path": (r"/[\w{}/.?=&-]*", "what the model appends to the address, see labgrid's manual"),
    "timeout": (r"[1-9]\d?", "seconds for one command, 1 to 99"),
}
_free = threading.BoundedSemaphore(MOST)


def connect(url: PowerUrl, secret: SecretStr | None) -> Pdu:
    """Return the driver of one outlet; nothing is sent yet.

    Raises:
        ConfigError: the URL can't be used.
    """
    model = url.scheme.partition("+")[2]
    if not re.fullmatch(r"[a-z0-9_]+", model):
        raise ConfigError(f"power = {url}: no model", fix=f"pdu+shelly_gen2://{url.host}?outlet=0")
    check_options(url, OPTIONS)
    if "outlet" not in url.options:
        raise ConfigError(f"power = {url}: no outlet", fix="add ?outlet=1 to the power URL")
    return Pdu(model, url, secret)


class Pdu:
    """One outlet. Without mains a host is off; with mains nobody knows."""

    can = Can(tell=frozenset({PowerState.OFF}))

    def __init__(self, model: str, url: PowerUrl, secret: SecretStr | None) -> None:
        where = f"[{url.host}]" if ":" in url.host else url.host
        port = f":{url.port}" if url.port else ""
        self.peer = f"pdu+{model}://{where}{port}"
        self._outlet = url.options["outlet"]
        self._patience = float(url.options.get("timeout", "10"))
        self._job = {
            "model": model,
            "host": where,
            "port": url.port,
            "user": url.user,
            "tls": url.options.get("tls") == "yes",
            "path": url.options.get("path", ""),
            "outlet": self._outlet,
        }
        self._secret = secret

    def request(self, state: PowerState, *, deadline: Deadline) -> None:
        """Switch the outlet, as Driver has it."""
        self._run(state.value, deadline)

    def query(self, *, deadline: Deadline) -> PowerState:
        """Ask for the outlet's state, as Driver has it. Fails closed."""
        said = self._run("status", deadline)
        if said not in ("on", "off"):
            raise PowerError(f"{self.peer} outlet {self._outlet}: it tells no state")
        return PowerState(said)

    def _run(self, action: str, deadline: Deadline) -> str:
        what = f"{self.peer} outlet {self._outlet}: {action}"
        secret = self._secret.get_secret_value() if self._secret else ""
        while not _free.acquire(timeout=0.05):
            deadline.check(what)
        try:
            with snmp_home() as home:
                outcome = run(
                    [sys.executable, "-m", "cuckoo_zfsiscsi.power.pdu_child", action],
                    secrets=for_python(
                        {"PDU_JOB": json.dumps(self._job), "PDU_PASSWORD": secret, **home}
                    ),
                    install=INSTALL,
                    deadline=deadline.within(self._patience),
                    what=what,
                )
        except DeadlineExceededError:
            if not deadline.remaining:
                raise
            raise TransientPowerError(
                f"{what}: no answer in {self._patience:.0f} s", fix="try: ping it; ?timeout=30"
            ) from None
        finally:
            _free.release()
        if outcome.code == 0:
            return outcome.stdout.strip()
        said = (outcome.stderr.strip() or "nothing").splitlines()[-1]
        raise _error(outcome.code, f"{what}: {said[:200]}")


@contextmanager
def snmp_home() -> Iterator[dict[str, str]]:
    """Give net-snmp's tools a home: one that they make or miss, they name in what labgrid reads.

    Made and removed here: the child may be killed.
    """
    with tempfile.TemporaryDirectory(prefix="zfsiscsi-snmp-") as home:
        (Path(home) / "cert_indexes").mkdir()
        yield {"SNMP_PERSISTENT_DIR": home}


def _error(code: int, what: str) -> PowerError:
    if code == TEMPORARY:
        return TransientPowerError(what, fix="try: ping it; is its address right?")
    if code == REFUSED:
        return RefusedPowerError(
            what, fix="check user and password: USER@ in the URL, ?password_file= or the host's"
        )
    if code == MISSING:
        return PowerError(what, fix=INSTALL)
    return PowerError(what, fix="is the model right, and the outlet there? see docs/power.rst")
