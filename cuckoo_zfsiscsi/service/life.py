"""Does anything of a host's last boot still live? What can't be found out lives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address

from cuckoo_zfsiscsi.at_once import at_once
from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, NotOffError, ZfsIscsiError
from cuckoo_zfsiscsi.power.witness import Life, Witness
from cuckoo_zfsiscsi.service.parts import Parts, Probe

JUDGE_TIMEOUT = 20.0
"""Seconds for the whole look."""
SILENT = 0.3
"""Seconds in which a guest that lives answers RPC."""


def sign_of_life(
    config: HostConfig,
    parts: Parts,
    portal: tuple[IPv4Address, int],
    *,
    quiet: float,
    cancel: Cancel,
) -> str:
    """Return what shows that the last boot's guest lives; "" when it is proved not to.

    Args:
        config: of the host.
        parts: of it; its probes are asked, all at the same time.
        portal: address and TCP port of it in the host's network.
        quiet: seconds of silence after which a session is over, see readiness.session.
        cancel: ends the look early.

    Raises:
        CancelledError: given up.
    """
    deadline = Deadline(JUDGE_TIMEOUT, cancel)

    def held() -> str:
        try:
            has = parts.is_held(*portal, config.ip, quiet=quiet, deadline=deadline)
        except CancelledError:
            raise
        except (OSError, ZfsIscsiError) as error:
            return f"as far as is known ({error})"
        return "its session goes on" if has else ""

    def answers(name: str, probe: Probe) -> str:
        return f"its {name} answers" if probe(deadline.within(SILENT)).heard else ""

    looks: list[Callable[[], str]] = [held]
    looks += [partial(answers, *probe) for probe in parts.probes.items()]
    signs = [look.result() for look in at_once(looks, parts.clock, "life")]
    return next((sign for sign in signs if sign), "")


def prove_silent(label: str, witness: Witness, deadline: Deadline) -> None:
    """Look once more at a host whose power was proved off.

    Raises:
        NotOffError: it lives.
        PowerError, DeadlineExceededError, CancelledError: that can't be told.
    """
    refuse(label, witness.look(deadline=deadline))


def refuse(label: str, life: Life) -> None:
    """Refuse to go on with a host that lives.

    Raises:
        NotOffError: it does.
    """
    if life:
        raise NotOffError(
            f"{label} was proved off, but {life}: its power device lies, or switches another host",
            fix=f"look at it: which outlet feeds {label}? zfsiscsi power {label} test",
        )
