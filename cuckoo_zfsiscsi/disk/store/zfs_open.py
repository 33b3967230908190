"""What was on record when the store was opened, and what of it can be trusted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import zfs_device
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_catalogue import OWN, number, unsigned
from cuckoo_zfsiscsi.disk.store.zfs_disks import Clone, Role
from cuckoo_zfsiscsi.disk.store.zfs_layout import (
    BASE,
    GENERATION,
    IMAGE,
    LAST,
    ROLE,
    SAMPLE,
    TAINTED,
    Layout,
)
from cuckoo_zfsiscsi.disk.store.zfs_proof import State, read_states

log = logging.getLogger(__name__)

_RECORD = f"""
{OWN}
local argv = ...
argv = argv["argv"]
local hosts = {{}}
for folder in zfs.list.children(argv[1]) do
    local disks = {{}}
    for dataset in zfs.list.children(folder) do
        local origin = zfs.get_prop(dataset, "origin")
        disks[dataset] = {{
            used = zfs.get_prop(dataset, "used"),
            role = own(dataset, "{ROLE}"),
            generation = own(dataset, "{GENERATION}"),
            image = own(dataset, "{IMAGE}"),
            base = own(dataset, "{BASE}"),
            tainted = own(dataset, "{TAINTED}"),
        }}
        if origin then
            disks[dataset].origin = zfs.get_prop(origin, "guid")
            disks[dataset].sample = own(origin, "{SAMPLE}")
        end
    end
    hosts[folder] = {{last = own(folder, "{LAST}"), disks = disks}}
end
return hosts
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What is on record of one host."""

    host: str
    last: int
    clones: list[Clone]
    demoted: list[Clone]
    """Those whose role is another one on record."""


def recover(layout: Layout, zfs: Zfs, deadline: Deadline) -> Iterator[Found]:
    """Read the disks of every host, and give each the role that it deserves.

    A guest may still be writing to any of them, as the target is not in our hands yet. So the
    devices' counts are read first, then all is synced, and then is read what was written: whatever
    is submitted later shows in the counts. Only an untouched spare stays one. A current disk is
    tainted: what its guest did, nobody knows.

    Raises:
        DiskError: the pool does not answer.
    """
    hosts = zfs.read(_RECORD, [layout.disks], deadline=deadline)
    found = [_found(folder, hosts[folder]) for folder in sorted(hosts)]
    spares = [clone for one in found for clone in one.clones if clone.role == "spare"]
    for one in found:
        for clone in one.clones:
            if clone.role in ("spare", "current"):
                clone.path = zfs_device.wait_for(clone.dataset, deadline)
    for clone in spares:
        clone.clean = zfs_device.count_writes(clone.path)
    zfs.sync(deadline=deadline)
    states = read_states(zfs, [clone.dataset for clone in spares], deadline=deadline)
    for clone in spares:
        flaw = states.get(clone.dataset, State()).flaw(clone)
        if flaw or clone.tainted:
            log.warning("spare %s is retired: %s", clone.dataset, flaw or "it was armed before")
            clone.role = "retired"
            next(one for one in found if clone in one.clones).demoted.append(clone)
    yield from found


def on_record(layout: Layout, zfs: Zfs, deadline: Deadline) -> list[dict[str, str | int]]:
    """Return what is on record of every disk, for people."""
    hosts = zfs.read(_RECORD, [layout.disks], deadline=deadline)
    return [
        {
            "name": dataset.removeprefix(f"{layout.disks}/"),
            "role": facts["role"] or "?",
            "generation": number(facts["generation"]),
            "image": facts["image"],
            "used": facts["used"],
        }
        for folder in sorted(hosts)
        for dataset, facts in sorted(hosts[folder]["disks"].items())
    ]


def _found(folder: str, facts: dict[str, object]) -> Found:
    host = folder.rpartition("/")[2]
    disks = facts["disks"]
    assert isinstance(disks, dict)  # noqa: S101 - for the type checker
    clones = [_clone(host, dataset, disks[dataset]) for dataset in sorted(disks)]
    current = [clone for clone in clones if clone.role == "current"]
    current.sort(key=lambda clone: clone.generation)
    demoted = current[:-1]  # a swap was not on record whole
    for old in demoted:
        old.role = "retired"
    last = max([number(str(facts["last"])), *(_highest(clone) for clone in clones)])
    return Found(host, last, clones, demoted)


def _highest(clone: Clone) -> int:
    """Return the highest number of a disk: a rollback gives it a new one, but no new name."""
    return max(clone.generation, _number_in(clone.dataset))


def _number_in(dataset: str) -> int:
    return number(dataset.rpartition("/g")[2])


def _clone(host: str, dataset: str, facts: dict[str, str | int]) -> Clone:
    on_record = str(facts["role"])
    roles: dict[str, Role] = {
        "spare": "spare", "current": "current", "retired": "retired", "evidence": "retired",
    }  # fmt: skip
    role: Role = roles.get(on_record, "dropped")  # half-made, or not made by us at all
    return Clone(
        host=host,
        generation=number(str(facts["generation"])) or _number_in(dataset),
        dataset=dataset,
        image=str(facts["image"]),
        origin=unsigned(int(facts.get("origin", 0))),
        sample=str(facts.get("sample", "")),
        base=number(str(facts["base"])),
        path=Path("/dev/zvol") / dataset,
        role=role,
        tainted=bool(facts["tainted"]) or role == "current",
    )
