"""Where everything lies in the pool, and the user properties that say what it is.

PARENT is the configured pool or dataset + "/zfsiscsi". All that we know is in it, so another
machine that imports the pool knows it, too:

PARENT/images/NAME           last, stands
PARENT/images/NAME/VERSION   a volume: role image or draft; of a draft: editor, generation
PARENT/images/NAME/VERSION@sealed   held; sample. Its guid is the image's digest
PARENT/imports/HEX           a volume that is being filled
PARENT/disks                 its reservation is for the disks of all hosts
PARENT/disks/HOST            last; its quota is for this host's
PARENT/disks/HOST/gN         a clone of an image's @sealed: role, generation, image, base, tainted
PARENT/disks/HOST/gN@base    held; what was written since then is not the image's
PARENT/evidence/HOST-gN      a disk that was kept: host, generation, image, kept, since, changed
PARENT/evidence/HOST-gN@evidence    held

A property counts where it was set (or received), never where it is inherited.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PREFIX = "zfsiscsi:"
ROLE = PREFIX + "role"
"""Of a disk: making, spare, current, retired, evidence, dropped. Of an image: draft, image."""
LAST = PREFIX + "last"
"""Highest number given away: a host's generation, an image's version."""
STANDS = PREFIX + "stands"
"""Version that an image's name stands for; "" for the newest sealed one."""
EDITOR = PREFIX + "editor"
"""Host that may boot a draft."""
GENERATION = PREFIX + "generation"
IMAGE = PREFIX + "image"
"""name@version that a disk is a clone of."""
SAMPLE = PREFIX + "sample"
"""Digest of blocks of a sealed image, see zfs_device.sample()."""
BASE = PREFIX + "base"
"""guid of a disk's @base."""
TAINTED = PREFIX + "tainted"
HOST = PREFIX + "host"
KEPT = PREFIX + "kept"
"""When evidence was kept, seconds since the epoch."""
SINCE = PREFIX + "since"
"""When evidence was kept, on CLOCK."""
CHANGED = PREFIX + "changed"
"""Bytes that the guest changed."""
OWNER = PREFIX + "owner"
"""Server whose service has the store open."""
CLOCK = PREFIX + "clock"
"""What was counted of the time that evidence grows old by, see zfs_age.py."""

SEALED, TAKEN, KEPT_AS = "sealed", "base", "evidence"
"""Names of our snapshots: of an image, of a disk, of evidence."""
HOLD = "zfsiscsi"
"""Tag of our holds."""
MARK = "store"
"""Role of PARENT: what `storage init` made, and nothing else, has it."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of images and hosts."""
REF = re.compile(rf"({NAME.pattern})(?:@([1-9][0-9]{{0,8}}))?")


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of datasets.

    Args:
        place: the configured pool, or dataset in one.
    """

    place: str

    @property
    def pool(self) -> str:
        """Name of the pool."""
        return self.place.partition("/")[0]

    @property
    def parent(self) -> str:
        """The dataset that holds everything, and that is ours alone."""
        return f"{self.place}/zfsiscsi"

    @property
    def images(self) -> str:
        """Parent of the images."""
        return f"{self.parent}/images"

    @property
    def imports(self) -> str:
        """Parent of what is being imported."""
        return f"{self.parent}/imports"

    @property
    def disks(self) -> str:
        """Parent of the hosts' disks."""
        return f"{self.parent}/disks"

    @property
    def evidence(self) -> str:
        """Parent of the evidence."""
        return f"{self.parent}/evidence"

    def image(self, name: str, version: int) -> str:
        """Return the volume of an image's version."""
        return f"{self.images}/{name}/{version}"

    def host(self, host: str) -> str:
        """Return the parent of a host's disks."""
        return f"{self.disks}/{host}"

    def disk(self, host: str, generation: int) -> str:
        """Return the volume that is made for a generation; a rollback does not rename it."""
        return f"{self.disks}/{host}/g{generation}"

    def kept(self, host: str, generation: int) -> str:
        """Return the volume of a host's evidence."""
        return f"{self.evidence}/{host}-g{generation}"
