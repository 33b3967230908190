"""Does anything of a host's last boot still live? What can't be found out lives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cuckoo_zfsiscsi.at_once import at_once
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import CancelledError, NotOffError, ZfsIscsiError
from cuckoo_zfsiscsi.power.witness import Life, Witness
from cuckoo_zfsiscsi.service.parts import Parts, Probe

SILENT = 0.3
"""Seconds in which a guest that lives answers RPC."""


def session_goes_on(is_held: Callable[[], bool]) -> str:
    """Return that the host still is at its end of its session, for people; "" if it is not.

    Args:
        is_held: asks the host's kernel, see readiness.session.

    Raises:
        CancelledError: given up.
    """
    try:
        return "its session goes on" if is_held() else ""
    except CancelledError:
        raise
    except (OSError, ZfsIscsiError) as error:
        return f"as far as is known ({error})"


def sign_of_life(parts: Parts, is_held: Callable[[], bool], deadline: Deadline) -> str:
    """Return what shows that the last boot's guest lives; "" when it is proved not to.

    Args:
        parts: of the host; its probes are asked, all at the same time.
        is_held: as session_goes_on().
        deadline: of the look; it may end it early.

    Raises:
        CancelledError: given up.
    """

    def answers(name: str, probe: Probe) -> str:
        return f"its {name} answers" if probe(deadline.within(SILENT)).heard else ""

    looks: list[Callable[[], str]] = [partial(session_goes_on, is_held)]
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
