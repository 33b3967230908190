"""Drafts in the ZFS store: an image's version that is not sealed yet, for one host to change."""

from __future__ import annotations

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store import zfs_catalogue as catalogue
from cuckoo_zfsiscsi.disk.store.zfs_call import Zfs
from cuckoo_zfsiscsi.disk.store.zfs_catalogue import Golden
from cuckoo_zfsiscsi.disk.store.zfs_images import Images
from cuckoo_zfsiscsi.disk.store.zfs_layout import EDITOR, GENERATION, ROLE, Layout
from cuckoo_zfsiscsi.disk.store.zfs_lease import catalogue_lock
from cuckoo_zfsiscsi.disk.store.zfs_space import Room
from cuckoo_zfsiscsi.errors import ImageError


class Drafts:
    """Of one store."""

    def __init__(self, layout: Layout, zfs: Zfs, room: Room, images: Images) -> None:
        self._layout = layout
        self._zfs = zfs
        self._room = room
        self._images = images

    def edit(self, name: str, host: str, generation: int, *, deadline: Deadline) -> Golden:
        """Return the draft of an image for this host, made now if there is none.

        Args:
            name: of the image.
            host: that edits it.
            generation: of the host's, if it becomes the editor now.
            deadline: for it.

        Raises:
            ImageError: no such image, or another host has the draft.
        """
        name, version = catalogue.parse(name)
        if version:
            raise ImageError(
                f"{name}@{version} is one version, and a sealed one never changes",
                fix=f"zfsiscsi image edit {host} {name}, which makes the next one",
            )
        with catalogue_lock(self._layout, deadline):
            folder = self._images.folder(name, deadline)
            drafts = [one for one in folder.versions if not one.image.sealed]
            if drafts:
                draft = drafts[-1]
                if draft.editor not in ("", host):
                    raise ImageError(
                        f"{draft.image.ref} is being edited by {draft.editor}",
                        fix=f"zfsiscsi image seal {draft.image.ref}, or delete it",
                    )
                dataset, number = draft.dataset, draft.image.version
            else:
                golden = folder.resolve(0)
                self._room.make(0, f"a draft of {name}", deadline=deadline)
                number = self._images.next_version(name, deadline)
                dataset = self._layout.image(name, number)
                facts = {ROLE: "draft"}
                self._zfs.clone(dataset, golden.sealed, facts, deadline=deadline)
            if not drafts or not drafts[-1].editor:
                facts = {ROLE: "draft", EDITOR: host, GENERATION: str(generation)}
                self._zfs.set([(dataset, *one) for one in facts.items()], deadline=deadline)
            return self._images.folder(name, deadline).any(number)

    def of(self, host: str, deadline: Deadline) -> list[Golden]:
        """Return the drafts that a host edits."""
        found = [one for folder in self._images.all(deadline) for one in folder.versions]
        return [one for one in found if not one.image.sealed and one.editor == host]
