"""The real CAPE in a lab, from the checkout in CAPE_ROOT, and a C2 server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.cli import run
from cuckoo_zfsiscsi.lab import cape_sample, conf, guest_image
from cuckoo_zfsiscsi.lab.bring_up import Lab
from cuckoo_zfsiscsi.lab.cape_client import CapeClient
from cuckoo_zfsiscsi.lab.network import FOLDER
from cuckoo_zfsiscsi.lab.real_cape import CapeServer, RealCape, beside, default_python
from cuckoo_zfsiscsi.lab.routes.outside import GATEWAY
from cuckoo_zfsiscsi.lab.routes.route import Route
from tests.netboot.network import inside
from tests.waiting import wait

ANALYSIS = 300.0
"""Seconds for one task, on a busy machine."""
CLEAN = {"before": "none", "after": "found"}
"""What a sample tells of a host that was clean before it, and infected after."""


class Rig:
    """A lab, the real CAPE in it, and a C2 server."""

    def __init__(self, lab: Lab, cape: RealCape, heard: cape_sample.Heard) -> None:
        self.lab = lab
        self.cape = cape
        self.told = heard.told
        self.callers = heard.callers
        self.client = CapeClient(cape)
        self.kept = guest_image.default_cache() / "last-cape"
        """Folder for what is looked at when all is over."""

    def cli(self, *words: str) -> int:
        """Run it where CAPE is."""
        argv = ["--cape-root", str(self.cape.tree), "--cape-conf", str(self.cape.conf)]
        with inside(FOLDER / self.cape.server.namespace.name):
            return run(["--conf", str(self.lab.conf), "cape", words[0], *argv, *words[1:]])

    def sample(self, name: str, seconds: float = 1.0) -> Path:
        return cape_sample.write(self.lab.at, name, seconds=seconds)

    def wait(self, true: Callable[[], object], what: str, seconds: float = ANALYSIS) -> None:
        wait(true, seconds, f"never: {what}", lambda: self.told, pause=0.2)

    def machine(self) -> dict[str, Any]:
        (machine,) = self.client.machines()
        return machine


@contextmanager
def up(
    *,
    prewarm: bool,
    more: Sequence[conf.Host] = (),
    at_once: int = 1,
    database: str = "",
    routing: str = "",
) -> Iterator[Rig]:
    """Bring all of it up; the logs are kept.

    Args:
        prewarm: the service boots the first host while it is idle.
        more: hosts after the first.
        at_once: analyses: two boots at once take long on two processors.
        database: CAPE's, SQLAlchemy's URL; an SQLite file when empty.
        routing: CAPE's routing.conf, if it has routes: then it is on a server of its own.
    """
    root = Path(os.environ.get("CAPE_ROOT") or pytest.fail("set CAPE_ROOT to a checkout of CAPE"))
    python = Path(os.environ.get("CAPE_PYTHON") or default_python(root))
    image = guest_image.build(guest_image.default_cache(), progress=print, cape=root)
    route: Route | None = "inetsim" if routing else None
    with Lab(
        firmware="bios", prewarm=prewarm, image=image, say=print, route=route, more=more
    ) as lab:
        server = beside(lab.network)
        if lab.outside:
            server = CapeServer(lab.outside.cape, GATEWAY.ip, lab.at / "rooter.sock", routing)
        cape = RealCape(root, python, lab.at / "cape", server, database=database)
        cape.prepare()
        with cape_sample.c2(lab.network) as heard:
            rig = Rig(lab, cape, heard)
            rig.kept.mkdir(exist_ok=True)
            try:
                assert rig.cli("install", "--apply") == 0
                if more:
                    folder = cape.tree / "custom/conf/cuckoo.conf.d"
                    folder.mkdir()
                    (folder / "one.conf").write_text(f"[cuckoo]\nmax_machines_count = {at_once}\n")
                cape.start()
                yield rig
            finally:
                cape.stop()
                for log in (*cape.logs, *lab.server.logs):
                    if log.exists():
                        shutil.copyfile(log, rig.kept / log.name)
