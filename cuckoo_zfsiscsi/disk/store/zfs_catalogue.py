"""The images in the pool, read at once by a channel program: also in the path of a reset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import Image
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_layout import (
    EDITOR,
    GENERATION,
    LAST,
    REF,
    ROLE,
    SAMPLE,
    SEALED,
    STANDS,
    Layout,
)
from cuckoo_zfsiscsi.errors import ImageError

LIST = "zfsiscsi image list"

OWN = """
local function own(dataset, name)
    local value, source = zfs.get_prop(dataset, name)
    if source == dataset or source == "$recvd" then return value end
    return ""
end
"""
"""Lua: a property that was set right here, not inherited."""

_LOOK = f"""
{OWN}
local argv = ...
argv = argv["argv"]

local function version(dataset)
    local found = {{
        size = zfs.get_prop(dataset, "volsize"),
        used = zfs.get_prop(dataset, "used"),
        created = zfs.get_prop(dataset, "creation"),
        role = own(dataset, "{ROLE}"),
        editor = own(dataset, "{EDITOR}"),
        generation = own(dataset, "{GENERATION}"),
    }}
    local sealed = dataset .. "@{SEALED}"
    if zfs.exists(sealed) then
        found.guid = zfs.get_prop(sealed, "guid")
        found.sample = own(sealed, "{SAMPLE}")
        found.holds = zfs.get_prop(sealed, "userrefs")
        found.clones = {{}}
        for clone in zfs.list.clones(sealed) do found.clones[clone] = true end
    end
    return found
end

local function versions(folder)
    local found = {{}}
    for dataset in zfs.list.children(folder) do
        if zfs.get_prop(dataset, "type") == "volume" then found[dataset] = version(dataset) end
    end
    return {{last = own(folder, "{LAST}"), stands = own(folder, "{STANDS}"), versions = found}}
end

local images = {{}}
if argv[2] ~= "" then
    local folder = argv[1] .. "/" .. argv[2]
    if zfs.exists(folder) then images[folder] = versions(folder) end
else
    for folder in zfs.list.children(argv[1]) do images[folder] = versions(folder) end
end
local bases = {{}}
for i = 3, #argv do
    if zfs.exists(argv[i]) then bases[argv[i]] = zfs.get_prop(argv[i], "guid") end
end
return {{images = images, bases = bases}}
"""


@dataclass(frozen=True, slots=True)
class Golden:
    """One version of an image, and what ZFS knows of it."""

    image: Image
    dataset: str
    role: str
    """image or draft; a sealed draft is one whose seal was not finished."""
    sample: str
    """Digest of some of its blocks."""
    held: bool
    clones: tuple[str, ...]
    """Datasets that depend on it."""
    editor: str
    """Host that may change it; "" for none."""
    generation: int
    """The editor's, of this draft."""

    @property
    def sealed(self) -> str:
        """Name of its snapshot."""
        return f"{self.dataset}@{SEALED}"


@dataclass(frozen=True, slots=True)
class Folder:
    """All versions of one image."""

    name: str
    last: int
    """Highest version ever given away."""
    stands: int
    """Version that the name stands for; 0 for the newest sealed one."""
    versions: tuple[Golden, ...]
    """From the first to the newest."""

    def resolve(self, version: int) -> Golden:
        """Return a sealed version; 0 for the one that the name stands for.

        Raises:
            ImageError: there is none.
        """
        ref = f"{self.name}@{version}" if version else self.name
        found = [one for one in self.versions if version in (0, one.image.version)]
        if not found:
            raise no_image(ref)
        sealed = [one for one in found if one.image.sealed]
        if not sealed:
            raise ImageError(f"image {ref} is not sealed", fix=f"zfsiscsi image seal {ref}")
        stands = [one for one in sealed if one.image.version == self.stands]
        return stands[0] if stands and not version else sealed[-1]

    def any(self, version: int) -> Golden:
        """Return a version, sealed or not; 0 for the newest.

        Raises:
            ImageError: there is none.
        """
        found = [one for one in self.versions if version in (0, one.image.version)]
        if not found:
            raise no_image(f"{self.name}@{version}" if version else self.name)
        return found[-1]


def no_image(ref: str) -> ImageError:
    """Return the error of an image that is not there."""
    name = ref.partition("@")[0]
    return ImageError(f"no image {ref}", fix=f"zfsiscsi image import {name} FILE, or {LIST}")


def parse(ref: str) -> tuple[str, int]:
    """Return name and version; 0 for none.

    Raises:
        ImageError: it is no name of an image.
    """
    if not (match := REF.fullmatch(ref)):
        raise ImageError(f"{ref!r} is no image: it is NAME or NAME@VERSION", fix=LIST)
    return match[1], int(match[2] or 0)


def read(layout: Layout, zfs: Zfs, deadline: Deadline) -> list[Folder]:
    """Return every image, by name."""
    found = zfs.read(_LOOK, [layout.images, ""], deadline=deadline)
    return [_folder(name, found["images"][name]) for name in sorted(found["images"])]


def look(
    layout: Layout, zfs: Zfs, name: str, snapshots: Sequence[str], deadline: Deadline
) -> tuple[Folder, dict[str, int]]:
    """Return one image, and the guids of those of these snapshots that are there."""
    found = zfs.read(_LOOK, [layout.images, name, *snapshots], deadline=deadline)
    folder = layout.images + "/" + name
    bases = {snapshot: unsigned(guid) for snapshot, guid in found["bases"].items()}
    return _folder(folder, found["images"].get(folder, {})), bases


def _folder(dataset: str, found: dict[str, Any]) -> Folder:
    name = dataset.rpartition("/")[2]
    versions = found.get("versions", {})
    golden = [_golden(name, one, versions[one]) for one in versions]
    golden = [one for one in golden if one.image.version]  # others are not ours
    golden.sort(key=lambda one: one.image.version)
    last, stands = number(found.get("last", "")), number(found.get("stands", ""))
    return Folder(name, last, stands, tuple(golden))


def _golden(name: str, dataset: str, found: dict[str, Any]) -> Golden:
    sample = found.get("sample", "")
    image = Image(
        name,
        number(dataset.rpartition("/")[2]),
        found["size"],
        sealed=bool(sample),
        digest=f"{unsigned(found['guid']):016x}" if sample else "",
        created=float(found["created"]),
        used=found["used"],
    )
    return Golden(
        image,
        dataset,
        found["role"],
        sample,
        held=bool(found.get("holds")),
        clones=tuple(sorted(found.get("clones", {}))),
        editor=found["editor"],
        generation=number(found["generation"]),
    )


def number(text: str) -> int:
    """Return a number that we wrote; 0 for anything else."""
    return int(text) if text.isascii() and text.isdigit() else 0


def unsigned(value: int) -> int:
    """Return a guid: Lua's numbers in the kernel have a sign."""
    return value % (1 << 64)
