"""One infected host beside its siblings, for a test of one attack."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cuckoo_zfsiscsi.lab.network import BMCS, bmc_address, mac
from tests.attacks.infected import Infected, Knowledge, Peer, when_off
from tests.attacks.moves import primitives
from tests.faults.farm import Farm
from tests.faults.patience import SERVICE
from tests.netboot.network import inside

CONTROL = BMCS.network_address + 1


def knowledge(farm: Farm) -> Knowledge:
    """Return what malware on a farm's first host may know."""
    own, *siblings = (
        Peer(label, str(farm.address(number)), mac(number))
        for number, label in enumerate(farm.labels, 1)
    )
    return Knowledge(
        own=own,
        siblings=tuple(siblings),
        server=str(farm.server(1)),
        control=str(CONTROL),
        bmcs=tuple(str(bmc_address(number)) for number in range(1, len(farm.labels) + 1)),
        iqn="iqn.2026-01.org.example",
    )


class Infection:
    """Malware on pc1, in a run; pc2 is off and clean.

    Args:
        farm: opened, its service started.
    """

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.infected: Infected

    @contextmanager
    def inside(self) -> Iterator[Infected]:
        """Be in the infected host's network."""
        with inside(self.farm.guest("pc1")):
            yield self.infected

    def begin(self, *, in_run: bool = True) -> None:
        """Infect pc1.

        Args:
            in_run: in a run that is begun now; malware ends with its power then.
        """
        if in_run:
            self.farm.client.start("pc1", SERVICE)
        with inside(self.farm.guest("pc1")):
            self.infected = Infected(knowledge(self.farm))
        if not in_run:
            return
        with self.inside():
            self.infected.secret()
        pid = self.farm.machines["pc1"].pid
        assert pid is not None
        when_off(pid, self.infected.close)

    def play(self, name: str, seed: int = 0) -> str:
        """Play a move; return what came of it. Raises OSError, LoginError: it was refused."""
        with self.inside() as infected:
            return primitives()[name].play(infected, random.Random(seed))  # noqa: S311

    def run(self, label: str = "pc2") -> tuple[float, float]:
        """Have a sibling go through a run; return the seconds of its start and of its reset."""
        farm, begin = self.farm, time.monotonic()
        farm.client.start(label, SERVICE)
        start = time.monotonic() - begin
        return start, self.end(label)

    def end(self, label: str) -> float:
        """End a run; return the seconds from its end to a clean disk."""
        self.farm.client.stop(label, SERVICE)
        begin = time.monotonic()
        self.farm.wait(lambda: self.farm.states()[label] == "clean", f"the reset of {label}")
        return time.monotonic() - begin

    def is_golden(self, label: str) -> bool:
        """Whether the disk that a host has now is the golden image, whole, as the store has it."""
        generation = self.farm.client.host(label)["generation"]
        file = self.farm.at / "store" / "disks" / label / f"{generation}.raw"
        return file.read_bytes() == self.farm.golden
