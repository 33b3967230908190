"""Parts of a host that fail on command. The real ones have tests of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cuckoo_zfsiscsi.config import HostConfig
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk, Evidence, Image, Space
from cuckoo_zfsiscsi.disk.target import Credentials, Export, Session
from cuckoo_zfsiscsi.errors import ImageError, UnprovenDiskError, ZfsIscsiError
from cuckoo_zfsiscsi.power import PowerState, Proof
from cuckoo_zfsiscsi.progress import Progress
from cuckoo_zfsiscsi.readiness import Answer
from cuckoo_zfsiscsi.readiness.attempt import attempt
from cuckoo_zfsiscsi.readiness.stream import UnreachableError
from cuckoo_zfsiscsi.service.parts import DeleteFlows, Tell

STUCK = 0.3
"""Seconds until a power device that can't cut gives up; hosts have more time than that."""


@dataclass
class World:
    """A host's hardware: what is on, armed, exported and logged in. `journal` has it in order."""

    journal: list[str] = field(default_factory=list)
    power: PowerState = PowerState.ON
    says: PowerState | None = None
    """What the power device says when it is asked, whatever is so; None: what is so."""
    stuck_on: bool = False
    export: Export | None = None
    session: Session | None = None
    target_ended: str = ""
    script: str | None = None
    files: dict[str, Path] = field(default_factory=dict)
    boots: bool = True
    """The machine comes up when it is switched on and armed."""
    answers: set[str] = field(default_factory=lambda: {"rpc", "agent"})
    warning: str = ""
    """What comes of telling it its default route."""
    flows_warning: str = ""
    """What comes of deleting its flows."""
    holds: bool = True
    """Its kernel answers on its session, as long as it is up."""
    busy: float = 0.0
    """Seconds that the guest takes to answer."""
    hot: bool = False
    """Its disk is reset at its boot, with power on."""
    spontaneous: bool = False
    """The guest answers though it never logged in to its disk."""
    fail: dict[str, ZfsIscsiError] = field(default_factory=dict)
    """Errors to raise, by name of the method."""
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    """What to call first, by name of the method."""
    images: set[str] = field(default_factory=lambda: {"win10@1"})
    generation: int = 0
    tainted: set[int] = field(default_factory=set)
    drafts: list[Disk] = field(default_factory=list)
    spare: bool = False
    kept: list[Evidence] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def act(self, name: str, deadline: Deadline | None = None) -> None:
        with self.lock:
            before = self.before.get(name)
            self.journal.append(name)  # last: who finds it there may change what is before the next
        if before:
            before()
        if deadline is not None:
            deadline.check(name)
        if error := self.fail.get(name):
            raise error

    def switch_on(self) -> None:
        """Play what the machine does: nothing, or boot from its disk."""
        self.power = PowerState.ON
        if self.boots and self.script and self.export:
            who = self.export.credentials.initiator
            self.session = Session(who, "10.99.0.11", self.generation)

    def switch_off(self) -> None:
        if not self.stuck_on:
            self.power, self.session = PowerState.OFF, None

    @property
    def is_up(self) -> bool:
        return self.power is PowerState.ON and (self.session is not None or self.spontaneous)


class FakePower:
    def __init__(self, world: World) -> None:
        self.world = world

    def on(self, *, deadline: Deadline) -> Proof:
        self.world.act("on", deadline)
        self.world.switch_on()
        return Proof(PowerState.ON, "fake://", "it is", 0.0)

    def off(self, *, deadline: Deadline) -> Proof:
        self.world.act("off", deadline)
        self.world.switch_off()
        patience = deadline.within(STUCK)
        while self.world.power is PowerState.ON:
            patience.sleep(0.1, "power off")
        return Proof(PowerState.OFF, "fake://", "it is", 0.0)

    def status(self, *, deadline: Deadline) -> PowerState:
        self.world.act("status", deadline)
        return self.world.says or self.world.power


class FakeStore:
    def __init__(self, world: World) -> None:
        self.world = world

    def open(self) -> None: ...

    def close(self) -> None: ...

    def images(self) -> list[Image]:
        return [self._image(ref) for ref in sorted(self.world.images)]

    def find_image(self, ref: str) -> Image:
        found = [i for i in self.images() if ref in (i.name, i.ref)]
        if not found:
            raise ImageError(f"no image {ref}", fix=f"zfsiscsi image import {ref} FILE")
        return found[-1]

    def import_image(
        self, name: str, source: Path, *, deadline: Deadline, progress: Progress
    ) -> Image:
        raise NotImplementedError

    def seal(self, ref: str, *, deadline: Deadline, progress: Progress) -> Image:
        raise NotImplementedError

    def delete_image(self, ref: str) -> None:
        raise NotImplementedError

    def users(self, ref: str) -> list[str]:
        raise NotImplementedError

    def rollback_image(self, ref: str) -> Image:
        raise NotImplementedError

    def edit_image(self, host: str, name: str, *, deadline: Deadline) -> Disk:
        self.world.act("edit", deadline)
        self.world.generation += 1
        draft = Disk(host, self.world.generation, f"{name}@2", Path("/dev/null"), "draft")
        self.world.drafts.append(draft)
        return draft

    def current(self, host: str) -> Disk | None:
        raise NotImplementedError

    def make_spare(self, host: str, image: str, *, deadline: Deadline, progress: Progress) -> Disk:
        self.world.act("make_spare", deadline)
        self.world.spare = True
        return Disk(host, self.world.generation + 1, image, Path("/dev/null"), "spare")

    def swap(self, host: str, image: str, *, deadline: Deadline) -> Disk:
        self.world.act("swap", deadline)
        assert self.world.hot or self.world.power is PowerState.OFF, "reset with power on"
        assert self.world.session is None, "reset under a live session"
        assert self.world.export is None, "reset of an exported disk"
        self.world.generation += 1
        self.world.spare = False
        ref = self.find_image(image).ref
        return Disk(host, self.world.generation, ref, Path("/dev/null"), "current")

    def begin_swap(self, host: str, image: str, *, deadline: Deadline) -> Callable[[], Disk]:
        return partial(self.swap, host, image, deadline=deadline)

    def prove(self, disk: Disk, *, deadline: Deadline) -> None:
        self.world.act("prove", deadline)
        if disk.generation in self.world.tainted:
            raise UnprovenDiskError(f"generation {disk.generation} was armed before")

    def taint(self, disk: Disk) -> None:
        self.world.act("taint")
        self.world.tainted.add(disk.generation)

    def disks(self, host: str) -> list[Disk]:
        return [draft for draft in self.world.drafts if draft.host == host]

    def rollback(self, host: str, image: str, *, deadline: Deadline) -> Disk:
        self.world.act("rollback")
        return self.swap(host, image, deadline=deadline)

    def discard_retired(self, host: str, *, deadline: Deadline) -> int:
        self.world.act("discard", deadline)
        return 0

    def spares(self, host: str) -> int:
        return int(self.world.spare)

    def space(self, *, deadline: Deadline) -> Space:
        self.world.act("space", deadline)
        return Space(100 << 30, 40 << 30)

    def kept(self, *, deadline: Deadline) -> list[Evidence]:
        self.world.act("kept", deadline)
        return self.world.kept

    @staticmethod
    def _image(ref: str) -> Image:
        name, _, version = ref.partition("@")
        return Image(name, int(version), 1 << 20, True, "", 0.0)


class FakeTarget:
    def __init__(self, world: World) -> None:
        self.world = world

    def open(self, *, deadline: Deadline) -> None: ...

    def close(self) -> None: ...

    def initiator(self, disk: Disk) -> str:
        return f"iqn.2017-10.lab:{disk.host}.g{disk.generation}"

    def fence(self, host: str, *, deadline: Deadline) -> None:
        self.world.act("fence", deadline)
        self.world.export, self.world.session = None, None

    def export(self, disk: Disk, credentials: Credentials, *, deadline: Deadline) -> Export:
        self.world.act("export", deadline)
        tainted = disk.generation in self.world.tainted
        assert disk.role == "draft" or tainted, "exported before it was tainted"
        self.world.export = Export(
            "10.99.0.1", 3260, f"iqn.2017-10.lab:{disk.host}", 1, credentials
        )
        return self.world.export

    def prepare(self, disk: Disk, *, deadline: Deadline) -> None:
        self.world.act("prepare", deadline)

    def release(self, host: str, keep: Collection[Disk], *, deadline: Deadline) -> None:
        self.world.act("release", deadline)

    def sessions(self, host: str) -> list[Session]:
        self.world.act("sessions")
        return [self.world.session] if self.world.session else []

    def ended(self, host: str) -> str:
        return self.world.target_ended


class FakeBoots:
    def __init__(self, world: World) -> None:
        self.world = world

    def arm(self, label: str, script: str, files: Mapping[str, Path] | None = None) -> None:
        self.world.act("arm")
        assert self.world.power is PowerState.OFF, "armed with power on"
        self.world.script, self.world.files = script, dict(files or {})

    def disarm(self, label: str) -> None:
        self.world.act("disarm")
        self.world.script, self.world.files = None, {}


def fake_probe(world: World, name: str) -> Callable[[Deadline], Answer]:
    def ask(deadline: Deadline) -> str:
        deadline.sleep(world.busy, name)
        if not (world.is_up and name in world.answers):
            raise UnreachableError("silent")
        return "answers"

    return lambda deadline: attempt(partial(ask, deadline))


def fake_delete_flows(world: World) -> DeleteFlows:
    def delete(deadline: Deadline) -> str:
        assert world.hot or world.power is PowerState.OFF, "flows deleted with power on"
        world.act("flows", deadline)
        return world.flows_warning

    return delete


def fake_default_route(world: World, config: HostConfig) -> Tell | None:
    """Return what tells a host of this configuration."""

    def tell(deadline: Deadline) -> str:
        world.act("tell", deadline)
        return world.warning

    return tell if config.network_via == "agent" else None
