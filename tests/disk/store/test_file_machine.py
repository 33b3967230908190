"""Random operations on a file store beside a model of what must come out."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Disk
from cuckoo_zfsiscsi.disk.store.file import FileStore
from cuckoo_zfsiscsi.errors import ImageError, UnprovenDiskError
from cuckoo_zfsiscsi.progress import silent
from tests.disk.content import files, poke
from tests.waiting import HANG

SIZE = 32768
HOSTS = st.sampled_from(["pc1", "pc2"])
NAMES = st.sampled_from(["win7", "win10"])
PLACES = st.integers(0, SIZE - 8)


@dataclass
class ModelImage:
    content: bytes
    sealed: bool = False
    broken: bool = False


@dataclass
class ModelHost:
    last: int = 0
    current: int | None = None
    spare: int | None = None
    images: dict[int, str] = field(default_factory=dict)
    """Of every generation that is there."""
    touched: set[int] = field(default_factory=set)
    """Generations that were tainted or written."""


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="zm", dir="/dev/shm"))  # for thousands of fsync
        self.store = FileStore(self.base / "store", immutable=False)
        self.store.open()
        self.images: dict[str, ModelImage] = {}
        self.versions = dict.fromkeys(("win7", "win10"), 0)
        self.hosts = {"pc1": ModelHost(), "pc2": ModelHost()}

    @initialize()
    def two_images(self) -> None:
        for name in self.versions:
            self.import_image(name)
            self.store.seal(f"{name}@1", deadline=Deadline(HANG), progress=silent)
            self.images[f"{name}@1"].sealed = True
        for host in self.hosts:
            self.swap(host, "win10")

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.base)

    def newest(self, name: str) -> str | None:
        found = [r for r, i in self.images.items() if r.startswith(f"{name}@") and i.sealed]
        return max(found, key=lambda ref: int(ref.partition("@")[2]), default=None)

    def disk(self, host: str, generation: int) -> Disk:
        path = self.base / f"store/disks/{host}/{generation}.raw"
        role = "current" if generation == self.hosts[host].current else "spare"
        ref = self.hosts[host].images[generation]
        return Disk(host, generation, ref, path, "current" if role == "current" else "spare")

    # Images

    @precondition(lambda self: len(self.images) < 5)
    @rule(name=NAMES)
    def import_image(self, name: str) -> None:
        source = self.base / "source"
        source.write_bytes(os.urandom(SIZE))
        image = self.store.import_image(name, source, deadline=Deadline(HANG), progress=silent)
        self.versions[name] += 1
        assert image.ref == f"{name}@{self.versions[name]}"
        self.images[image.ref] = ModelImage(source.read_bytes())

    @precondition(lambda self: self.images)
    @rule(data=st.data())
    def seal(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(sorted(self.images)))
        assert self.store.seal(ref, deadline=Deadline(HANG), progress=silent).sealed
        self.images[ref].sealed = True

    @precondition(lambda self: self.images)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(sorted(self.images)))
        users = [name for name, host in self.hosts.items() if ref in host.images.values()]
        try:
            self.store.delete_image(ref)
        except ImageError:
            assert users
        else:
            assert not users
            del self.images[ref]

    @precondition(lambda self: any(image.sealed for image in self.images.values()))
    @rule(data=st.data(), place=PLACES)
    def break_or_mend_an_image(self, data: st.DataObject, place: int) -> None:
        ref = data.draw(st.sampled_from(sorted(r for r, i in self.images.items() if i.sealed)))
        image = self.images[ref]
        name, _, version = ref.partition("@")
        path = self.base / f"store/images/{name}/{version}.raw"
        if image.broken:
            poke(path, 0, image.content)
        else:
            poke(path, place, bytes([image.content[place] ^ 1]))
        image.broken = not image.broken

    # Disks

    def _make(self, host: str, name: str) -> int | None:
        """Return the spare's generation that must come; None when there must be an error."""
        model, ref = self.hosts[host], self.newest(name)
        if ref is None:
            return None
        spare = model.spare
        if spare is not None and model.images[spare] == ref and spare not in model.touched:
            return spare
        if self.images[ref].broken:
            return None
        model.last += 1
        model.images[model.last] = ref
        model.spare = model.last
        return model.last

    @rule(host=HOSTS, name=NAMES)
    def make_spare(self, host: str, name: str) -> None:
        wanted = self._make(host, name)
        try:
            disk = self.store.make_spare(host, name, deadline=Deadline(HANG), progress=silent)
        except ImageError:
            assert wanted is None
        else:
            assert wanted is not None
            assert disk == self.disk(host, wanted)
            assert disk.path.read_bytes() == self.images[disk.image].content

    @rule(host=HOSTS, name=NAMES)
    def swap(self, host: str, name: str) -> None:
        wanted = self._make(host, name)
        try:
            disk = self.store.swap(host, name, deadline=Deadline(HANG))
        except ImageError:
            assert wanted is None
        else:
            assert wanted is not None
            self.hosts[host].current, self.hosts[host].spare = wanted, None
            assert disk == self.disk(host, wanted)
            assert disk.path.read_bytes() == self.images[disk.image].content

    @rule(host=HOSTS, place=PLACES, is_tainted=st.booleans(), is_spare=st.booleans())
    def touch(self, host: str, place: int, is_tainted: bool, is_spare: bool) -> None:
        model = self.hosts[host]
        generation = model.spare if is_spare else model.current
        if generation is not None:
            disk = self.disk(host, generation)
            if is_tainted:
                self.store.taint(disk)
            else:
                poke(disk.path, place)
            model.touched.add(generation)
            self._prove(host, generation)

    @rule(host=HOSTS, data=st.data())
    def prove(self, host: str, data: st.DataObject) -> None:
        model = self.hosts[host]
        if not model.images:
            return
        self._prove(host, data.draw(st.sampled_from(sorted(model.images))))

    def _prove(self, host: str, generation: int) -> None:
        model = self.hosts[host]
        clean = (
            generation in (model.current, model.spare)
            and generation not in model.touched
            and not self.images[model.images[generation]].broken
        )
        try:
            self.store.prove(self.disk(host, generation), deadline=Deadline(HANG))
        except UnprovenDiskError:
            assert not clean
        else:
            assert clean

    @rule(host=HOSTS)
    def discard(self, host: str) -> None:
        model = self.hosts[host]
        keep = {model.current, model.spare}
        count = self.store.discard_retired(host, deadline=Deadline(HANG))
        assert count == len(set(model.images) - keep)
        model.images = {g: ref for g, ref in model.images.items() if g in keep}

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = FileStore(self.base / "store", immutable=False)
        self.store.open()
        for model in self.hosts.values():
            if model.spare in model.touched:
                model.spare = None

    # What always holds

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        found = {image.ref: image.sealed for image in self.store.images()}
        assert found == {ref: image.sealed for ref, image in self.images.items()}
        for host, model in self.hosts.items():
            disk = self.store.current(host)
            assert (disk and disk.generation) == model.current
            assert disk is None or disk == self.disk(host, disk.generation)
            names = {f"{g}.{end}" for g in model.images for end in ("raw", "json")}
            assert files(self.base / f"store/disks/{host}") - {"host.json"} == names
        assert not [name for name in files(self.base) if name.endswith(".part")]


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=16,
    stateful_step_count=40,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # to make a failure shorter would take minutes
    suppress_health_check=list(HealthCheck),
)
