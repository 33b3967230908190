"""Calls of ZFS: changes by pyzfs (libzfs_core), bulk reads by its commands. All with a deadline.

pyzfs is Debian's python3-pyzfs, which is bound to the system's Python: that of PyPI is dead. A venv
sees it when it was made with --system-site-packages.
"""

from __future__ import annotations

import errno
import functools
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.bounded import bounded
from cuckoo_zfsiscsi.disk.store.zfs_error import ignoring, refused
from cuckoo_zfsiscsi.disk.store.zfs_layout import HOLD
from cuckoo_zfsiscsi.environment import for_child
from cuckoo_zfsiscsi.errors import DiskError

T = TypeVar("T")


_SET = """
argv = ...
argv = argv["argv"]
for i = 1, #argv, 3 do
    if zfs.exists(argv[i]) then
        local failed
        if argv[i + 2] == "" then
            failed = zfs.sync.inherit(argv[i], argv[i + 1])
        else
            failed = zfs.sync.set_prop(argv[i], argv[i + 1], argv[i + 2])
        end
        if failed ~= 0 then return failed end
    end
end
return 0
"""
_DESTROY = """
argv = ...
argv = argv["argv"]
for i = 1, #argv do
    if zfs.exists(argv[i]) then
        local failed = zfs.sync.destroy(argv[i])
        if failed ~= 0 then return failed end
    end
end
return 0
"""


Facts = Iterable[tuple[str, str, str]]
"""Properties to set, each as dataset, name, value; "" takes it away. A dataset that is not there is
left out."""


class Zfs:
    """One pool.

    Every method raises ZfsError when ZFS refuses, StoreFullError when there is no space, and
    DeadlineExceededError or CancelledError when it was not waited for: it may be done yet.
    """

    def __init__(self, pool: str) -> None:
        self.pool = pool

    def create_folder(
        self, name: str, facts: Mapping[str, str], *, quota: int = 0, deadline: Deadline
    ) -> None:
        """Make a file system that is never mounted: its parent's mountpoint is none.

        Args:
            name: of the dataset.
            facts: user properties.
            quota: bytes that all below it may take; 0 for any number.
            deadline: for it.
        """
        given = _properties(facts) | ({b"quota": quota} if quota else {})
        self._lzc(f"making {name}", "lzc_create", deadline, name.encode(), "zfs", given)

    def create_volume(
        self, name: str, size: int, block: int, facts: Mapping[str, str], *, deadline: Deadline
    ) -> None:
        """Make a sparse volume: one without a reservation.

        Args:
            name: of the dataset.
            size: bytes, a multiple of block.
            block: volblocksize, bytes.
            facts: user properties.
            deadline: for it.
        """
        given: dict[bytes, bytes | int] = {b"volsize": size, b"volblocksize": block}
        given |= _properties(facts)
        self._lzc(f"making {name}", "lzc_create", deadline, name.encode(), "zvol", given)

    def clone(
        self, name: str, origin: str, properties: Mapping[str, str], *, deadline: Deadline
    ) -> None:
        """Make a clone. Its properties are set a moment later."""
        what = f"cloning {origin} to {name}"
        self._lzc(what, "lzc_clone", deadline, name.encode(), origin.encode(),
                  _properties(properties))  # fmt: skip

    def snapshot(
        self, names: Sequence[str], properties: Mapping[str, str], *, deadline: Deadline
    ) -> None:
        """Make snapshots (dataset@name), all or none, with these properties from the start."""
        snapshots = [name.encode() for name in names]
        given = _properties(properties)
        self._lzc(f"the snapshot {names[0]}", "lzc_snapshot", deadline, snapshots, given)

    def hold(self, snapshots: Sequence[str], *, deadline: Deadline) -> None:
        """Hold snapshots; one that we hold already stays so."""
        for one in snapshots:
            with ignoring(errno.EEXIST):
                held = {one.encode(): HOLD.encode()}
                self._lzc(f"holding {one}", "lzc_hold", deadline, held)

    def release(self, snapshot: str, *, deadline: Deadline) -> None:
        """Take our hold from a snapshot, if it is there."""
        with ignoring(errno.ENOENT):
            held = {snapshot.encode(): [HOLD.encode()]}
            self._lzc(f"releasing {snapshot}", "lzc_release", deadline, held)

    def holds(self, snapshot: str, *, deadline: Deadline) -> list[str]:
        """Return the tags of a snapshot's holds."""
        found = self._lzc(f"asking for holds of {snapshot}", "lzc_get_holds", deadline,
                          snapshot.encode())  # fmt: skip
        return sorted(tag.decode() for tag in found)

    def rename(self, name: str, target: str, *, deadline: Deadline) -> None:
        """Rename a dataset."""
        what = f"renaming {name} to {target}"
        self._lzc(what, "lzc_rename", deadline, name.encode(), target.encode())

    def rollback(self, name: str, snapshot: str, *, deadline: Deadline) -> None:
        """Restore a dataset to its latest snapshot, which must be this one (EEXIST)."""
        what = f"restoring {name} to @{snapshot}"
        full = f"{name}@{snapshot}".encode()
        self._lzc(what, "lzc_rollback_to", deadline, name.encode(), full)

    def changed(self, snapshot: str, since: str, *, deadline: Deadline) -> int:
        """Return the bytes that changed from one snapshot to another, about."""
        what = f"asking how much changed in {snapshot}"
        return int(self._lzc(what, "lzc_send_space", deadline, snapshot.encode(), since.encode()))

    def sync(self, *, deadline: Deadline) -> None:
        """Have all on the medium that was written so far."""
        # lzc_sync() of 2.1 always passes "force", and with it this fails (error 1032)
        self.command("zpool", "sync", self.pool, deadline=deadline)

    def set(self, facts: Facts, *, deadline: Deadline) -> None:
        """Set user properties, all in one transaction group."""
        if words := [word for fact in facts for word in fact]:
            number = self._change(_SET, words, deadline)
            if number:
                raise refused(f"setting properties of {words[0]}", number)

    def destroy(self, names: Sequence[str], *, deadline: Deadline) -> None:
        """Destroy snapshots and datasets in this order, in one transaction group.

        Ends at the first that can't be destroyed: what comes before it is gone then.
        """
        number = self._change(_DESTROY, names, deadline)
        if number:
            raise refused(f"destroying {names[-1]}", number)

    def read(self, program: str, arguments: Sequence[str], *, deadline: Deadline) -> Any:  # noqa: ANN401
        """Run a channel program that changes nothing: it waits for no transaction group.

        Returns:
            What it returned: dictionaries by str, str, int.
        """
        call = functools.partial(self.read_unbounded, program, arguments)
        return bounded(call, f"reading from the pool {self.pool}", deadline)

    def read_unbounded(self, program: str, arguments: Sequence[str]) -> Any:  # noqa: ANN401
        """Do as read(), for callers that are bounded themselves."""
        words = [word.encode() for word in arguments]
        call = functools.partial(
            _pyzfs().lzc_channel_program_nosync, self.pool.encode(), program.encode(), params=words
        )
        return _text(_mapped(f"reading from the pool {self.pool}", call))

    def command(self, *argv: str, deadline: Deadline) -> str:
        """Run zfs or zpool; return what it printed.

        Raises:
            DiskError: it failed, or is not installed.
        """
        what = " ".join(argv[:3])
        return bounded(functools.partial(_run, argv), what, deadline)

    def _change(self, program: str, words: Sequence[str], deadline: Deadline) -> int:
        # params must be a list: with a dictionary a program runs and is given nothing
        encoded = [word.encode() for word in words]
        call = functools.partial(
            _pyzfs().lzc_channel_program, self.pool.encode(), program.encode(), params=encoded
        )
        return int(_called(f"changing {words[0]}", call, deadline))

    def _lzc(self, what: str, function: str, deadline: Deadline, *arguments: object) -> Any:  # noqa: ANN401
        return _called(what, functools.partial(getattr(_pyzfs(), function), *arguments), deadline)


def _called(what: str, call: Callable[[], T], deadline: Deadline) -> T:
    return bounded(functools.partial(_mapped, what, call), what, deadline)


def _mapped(what: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except _pyzfs().exceptions.ZFSError as error:
        raise refused(what, error.errno or 0, str(error)) from error


@functools.cache
def _pyzfs() -> ModuleType:
    try:
        import libzfs_core
    except ImportError:
        raise DiskError(
            "pyzfs is not installed, or not seen from this venv",
            fix="apt install python3-pyzfs, and make the venv with --system-site-packages of the "
            "system's Python: /usr/bin/python3",
        ) from None
    module: ModuleType = libzfs_core
    return module


def _properties(given: Mapping[str, str]) -> dict[bytes, bytes | int]:
    return {key.encode(): value.encode() for key, value in given.items()}


def _text(value: Any) -> Any:  # noqa: ANN401
    """Return what a channel program returned, with str for bytes."""
    if isinstance(value, dict):
        return {_text(key): _text(one) for key, one in value.items()}
    return value.decode() if isinstance(value, bytes) else value


def _run(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            env=for_child(),
        )  # fmt: skip
    except FileNotFoundError:
        raise DiskError(
            f"{argv[0]} is not installed", fix="apt install zfsutils-linux zfs-dkms"
        ) from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise DiskError(f"{' '.join(argv)}: {said[0]}", fix="zpool status -x")
    return done.stdout
