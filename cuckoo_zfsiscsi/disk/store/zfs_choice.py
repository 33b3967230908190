"""What an image stands for now, and which spare a swap takes: the only look at the pool in a swap.

Each property that a channel program reads costs time, and a host waits for it: so it reads no
more than this takes, however many versions there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.bounded import begun
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_catalogue import OWN, parse, unsigned
from cuckoo_zfsiscsi.disk.store.zfs_disks import Clone
from cuckoo_zfsiscsi.disk.store.zfs_layout import LAST, SAMPLE, SEALED, STANDS, TAKEN, Layout

_LOOK = f"""
{OWN}
local argv = ...
argv = argv["argv"]
local folder, wanted = argv[1], tonumber(argv[2])

local function sealed(number)
    local snapshot = folder .. "/" .. number .. "@{SEALED}"
    if not zfs.exists(snapshot) or own(snapshot, "{SAMPLE}") == "" then return nil end
    return {{version = number, guid = zfs.get_prop(snapshot, "guid")}}
end

local function resolve()
    if not zfs.exists(folder) then return nil end
    if wanted > 0 then return sealed(wanted) end
    local stands, number = tonumber(own(folder, "{STANDS}")), tonumber(own(folder, "{LAST}"))
    local found = stands and sealed(stands)
    while not found and number and number > 0 do
        found = sealed(number)
        number = number - 1
    end
    return found
end

local bases = {{}}
for i = 4, #argv do
    local base = argv[i] .. "@{TAKEN}"
    if zfs.exists(base) then
        bases[argv[i]] = {{
            guid = zfs.get_prop(base, "guid"),
            holds = zfs.get_prop(base, "userrefs"),
            written = zfs.get_prop(argv[i], "written@{TAKEN}"),
        }}
    end
end
local used = 0
if argv[3] ~= "" and zfs.exists(argv[3]) then used = zfs.get_prop(argv[3], "used") end
return {{image = resolve() or {{}}, bases = bases, used = used}}
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """A sealed version of an image, and which of some disks nobody has touched."""

    ref: str
    """name@version; "" when there is none: Folder.resolve() says why."""
    guid: int
    """Of its snapshot."""
    untouched: dict[str, int] = field(default_factory=dict)
    """Dataset -> guid of its @base, held, of disks without anything written since."""
    used: int = 0
    """Bytes that all disks of the host take, as of the last transaction group."""

    def is_of(self, clone: Clone) -> bool:
        """Whether a disk is a clone of the image as it was sealed."""
        return clone.is_of(self.ref, f"{self.guid:016x}")

    def is_untouched(self, clone: Clone) -> bool:
        """Whether ZFS has nothing against a disk. `written` lags: it proves nothing by itself."""
        return bool(clone.base) and self.untouched.get(clone.dataset) == clone.base


def look(
    layout: Layout,
    zfs: Zfs,
    image: str,
    disks: Sequence[Clone],
    deadline: Deadline,
    *,
    folder: str = "",
) -> Callable[[], Choice]:
    """Begin to look what an image, name or name@version, stands for, and at these disks.

    Args:
        layout: of the store.
        zfs: its pool.
        image: name or name@version.
        disks: to be looked at.
        deadline: for it.
        folder: dataset above all disks of the host, whose size is looked at, too.

    Returns:
        What waits for the choice. It raises:
            ImageError: it is no name of an image.
            DiskError: ZFS does not answer.
            DeadlineExceededError, CancelledError: not done.

    Raises:
        DeadlineExceededError, CancelledError: not begun.
    """
    datasets = [clone.dataset for clone in disks]
    call = partial(_choose, layout, zfs, image, folder, datasets)
    return begun(call, f"looking for a disk in the pool {zfs.pool}", deadline)


def _choose(layout: Layout, zfs: Zfs, image: str, folder: str, datasets: Sequence[str]) -> Choice:
    name, version = parse(image)
    arguments = [f"{layout.images}/{name}", str(version), folder, *datasets]
    found = zfs.read_unbounded(_LOOK, arguments)
    untouched = {
        dataset: unsigned(base["guid"])
        for dataset, base in found["bases"].items()
        if base["holds"] and not base["written"]
    }
    golden = found["image"]
    if not golden:
        return Choice("", 0, untouched, found["used"])
    ref = f"{name}@{golden['version']}"
    return Choice(ref, unsigned(golden["guid"]), untouched, found["used"])
