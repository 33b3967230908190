"""Drafts in the file store: an image's version that is not sealed yet, for one host to change."""

from __future__ import annotations

import threading
from dataclasses import replace

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.store.clone import clone
from cuckoo_zfsiscsi.disk.store.file_images import Golden, Images
from cuckoo_zfsiscsi.errors import ImageError
from cuckoo_zfsiscsi.progress import silent


class Drafts:
    """Of one store.

    Args:
        images: of the store.
    """

    def __init__(self, images: Images) -> None:
        self._images = images
        self._lock = threading.Lock()

    def edit(self, name: str, host: str, generation: int, *, deadline: Deadline) -> Golden:
        """Return the draft of an image for this host, made now if there is none.

        Args:
            name: of the image.
            host: that edits it.
            generation: of the host's, if it becomes the editor now.
            deadline: for it: without reflinks the whole image is copied.

        Raises:
            ImageError: no such image, or another host has the draft.
            StoreFullError: no space.
        """
        if "@" in name:
            raise ImageError(
                f"{name} is one version, and a sealed one never changes",
                fix=f"zfsiscsi image edit {host} {name.partition('@')[0]}, which makes the next",
            )
        with self._lock:  # of two hosts one makes it
            newest = self._images.find(name, sealed=False)
            if newest.image.sealed:
                self._clone(newest, deadline)
        with self._images.lock(deadline):
            draft = self._images.find(name, sealed=False)
            if draft.editor not in ("", host):
                raise ImageError(
                    f"{draft.image.ref} is being edited by {draft.editor}",
                    fix=f"zfsiscsi image seal {draft.image.ref}, or delete it",
                )
            if not draft.editor:
                draft = replace(draft, editor=host, generation=generation)
                draft.write()
        return draft

    def _clone(self, golden: Golden, deadline: Deadline) -> None:
        """Make the next version of an image from a sealed one."""
        golden = self._images.verify(golden, deadline=deadline)
        digest = golden.image.digest
        with self._images.part(deadline) as part:
            clone(golden.path, part, digest=digest, deadline=deadline, progress=silent)
            with self._images.lock(deadline):
                self._images.adopt(golden.image.name, part)

    def of(self, host: str) -> list[Golden]:
        """Return the drafts that a host edits."""
        return [one for one in self._images.all() if not one.image.sealed and one.editor == host]
