"""What a guest does to its own disk and session stays in its run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from tests.attacks.infection import Infection
from tests.faults.patience import SERVICE
from tests.iscsi import LoginError

Record = Callable[[str, object], None]


def play(infection: Infection, names: Iterable[str], times: int) -> None:
    """Play moves, each several times; a refusal is no matter."""
    for name in names:
        for seed in range(times):
            with contextlib.suppress(OSError, LoginError):
                infection.play(name, seed)


def boots_clean(infection: Infection) -> None:
    """See that the infected host's next disk is the golden image, and that it boots from it."""
    infection.end("pc1")
    assert infection.is_golden("pc1")
    infection.farm.client.start("pc1", SERVICE)
    assert infection.is_golden("pc1")


def test_what_a_disk_can_be_told(infection: Infection, record_property: Record) -> None:
    """Reservations that survive a loss of power, UNMAP, FORMAT, SANITIZE, EXTENDED COPY, ejection.

    Before: held well.
    Now: the next disk is the golden image, and a sibling's run goes on beside it.
    """
    farm, names = infection.farm, ("scsi.reserve", "scsi.unmap", "scsi.copy", "scsi.change")
    farm.client.start("pc2", SERVICE)
    play(infection, (*names, "scsi.ask", "scsi.chance"), 8)
    assert infection.is_golden("pc2")
    infection.end("pc2")
    boots_clean(infection)


def test_writes_over_everything(infection: Infection) -> None:
    """Writes over boot sector and partition table, by every kind of WRITE, and past the end.

    Before: held well.
    Now: the next disk is the golden image.
    """
    play(infection, ["scsi.write", "iscsi.own"], 12)
    assert not infection.is_golden("pc1"), "nothing was written: the test shows nothing"
    boots_clean(infection)


def test_sessions_beside_its_own(infection: Infection, record_property: Record) -> None:
    """A hundred sessions with its own secret, logins begun, reads whose data nobody takes.

    Before: its own reset took as long as they were many; a sibling did not notice.
    Now: a sibling's start is late by at most 2 s, its reset by at most 1 s.
    """
    start, reset = infection.run()
    play(infection, ("iscsi.sessions", "iscsi.first-login", "iscsi.silent", "iscsi.unread"), 6)
    late, later = infection.run()
    record_property("sibling's start late, s", round(late - start, 2))
    record_property("sibling's reset late, s", round(later - reset, 2))


def test_logins_in_a_sibling_s_name(infection: Infection, record_property: Record) -> None:
    """A login at a sibling's target under its initiator name, found by trying, begun and left.

    Before: where the name was found, the sibling's fence failed until the attacker's own reset.
    Now: the sibling's port is shut to it; its reset is late by at most 1 s.
    """
    farm = infection.farm
    _, calm = infection.run()
    farm.client.start("pc2", SERVICE)
    begun = []
    for seed in range(4):
        for name in ("iscsi.begin", "iscsi.sibling", "iscsi.names", "iscsi.secret"):
            with contextlib.suppress(OSError, LoginError):
                begun.append(f"{name}: {infection.play(name, seed)}")
    reset = infection.end("pc2")
    record_property("sibling's reset late, s", round(reset - calm, 2))
    assert not [one for one in begun if "generation" in one], begun


def test_what_discovery_tells(infection: Infection) -> None:
    """Discovery (SendTargets), under its own name and others, at its own port.

    Before: the answer to an unknown name differed, so that names could be found by trying.
    Now: it is told of its own target alone.
    """
    told = []
    for seed in range(4):
        with contextlib.suppress(OSError, LoginError):
            told.append(infection.play("iscsi.discover", seed))
    assert told, "nobody has answered: the test shows nothing"
