"""ZFS as an administrator has it: by its own commands. For tests, inside the appliance."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.waiting import HANG, wait

INSIDE = Path("/appliance/agent.py").exists()
"""Whether this is the appliance: what is made here takes all of /dev/vdb, whatever is on it."""


def run(*argv: str | Path) -> str:
    """Run a command that must succeed; return what it printed."""
    words = [str(word) for word in argv]
    done = subprocess.run(words, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def zfs(*argv: str) -> str:
    return run("zfs", *argv)


def zpool(*argv: str) -> str:
    return run("zpool", *argv)


def destroy_pool(name: str) -> None:
    """Destroy a pool. udev may be looking at a volume that has just come or gone."""
    _until_destroyed(["zpool", "destroy", "-f", name])


def get(name: str, prop: str) -> str:
    """Return one property of a dataset."""
    return zfs("get", "-Hpo", "value", prop, name).strip()


def names(parent: str, kinds: str = "all") -> set[str]:
    """Return what is below a dataset, snapshots included, relative to it."""
    lines = zfs("list", "-Hro", "name", "-t", kinds, parent).split()
    return {line.removeprefix(parent).lstrip("/") for line in lines} - {""}


def holds(*snapshots: str) -> list[str]:
    return [line.split("\t")[1] for line in zfs("holds", "-H", *snapshots).splitlines()]


def destroy(name: str) -> None:
    """Destroy a dataset and all that is below it, held or not. udev may be looking at a volume."""
    if snapshots := zfs("list", "-Hro", "name", "-t", "snapshot", name).split():
        held: dict[str, list[str]] = {}
        for line in zfs("holds", "-H", *snapshots).splitlines():
            snapshot, tag, _ = line.split("\t", 2)
            held.setdefault(tag, []).append(snapshot)
        for tag, those in held.items():
            zfs("release", tag, *those)
    _until_destroyed(["zfs", "destroy", "-R", name])


def _until_destroyed(argv: list[str]) -> None:
    said: list[str] = []

    def destroyed() -> bool:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=HANG, check=False)
        said.append(done.stderr)
        return not done.returncode

    wait(destroyed, what=f"never: {argv}", seen=lambda: said[-1], pause=0.2)


_DESTROY_ALL = """
local argv, left = ..., 0
for _, name in ipairs(argv["argv"]) do
    if zfs.exists(name) and zfs.sync.destroy(name) ~= 0 then left = left + 1 end
end
return left
"""


def empty(store: str) -> None:
    """Destroy what is in the folders of a store, held or not.

    In this process and in few transaction groups: as commands it would take most of a test's time.
    """
    import libzfs_core as lzc

    lines = zfs("list", "-Hpro", "name,userrefs", "-t", "all", store).splitlines()
    below = [line.split("\t") for line in lines if line.count("/") > store.count("/") + 1]
    for name, holders in below:
        if holders not in ("-", "0"):
            lzc.lzc_release({name.encode(): list(lzc.lzc_get_holds(name.encode()))})
    if not below:
        return
    deepest_first = [name.encode() for name, _ in reversed(below)]
    pool = store.partition("/")[0].encode()

    def emptied() -> bool:
        return not lzc.lzc_channel_program(pool, _DESTROY_ALL.encode(), params=deepest_first)

    wait(emptied, what=f"never: {store} is empty", seen=lambda: zfs("list", "-r", store), pause=0.1)
