from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cuckoo_zfsiscsi.config import load
from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.disk.drivers import make_store
from cuckoo_zfsiscsi.disk.store.zfs import ZfsStore
from cuckoo_zfsiscsi.disk.store.zfs_rules import HostRules
from tests.disk.content import swap
from tests.waiting import HANG
from tests.zfs.cli.conftest import Cli
from tests.zfs.device import write


def parsed(answer: tuple[int, str, str]) -> Any:
    code, out, err = answer
    assert (code, err) == (0, "")
    return json.loads(out)


def opened(conf: Path) -> ZfsStore:
    store = make_store(load(conf))
    assert isinstance(store, ZfsStore)
    store.open()
    return store


def test_a_pool_is_made_ready_and_shown(cli: Cli, parent: str) -> None:
    code, _, err = cli("storage", "show")
    assert (code, err.splitlines()) == (
        1,
        [
            f"error: {parent} is not ready: there is no {parent}/zfsiscsi",
            f"fix: zfsiscsi storage init {parent}",
        ],
    )
    code, out, _ = cli("storage", "init", parent)
    assert (code, out.splitlines()[0]) == (0, f"{parent}/zfsiscsi is ready")
    assert f"pool = {parent}" in out
    answer = parsed(cli("storage", "init", parent, "--json"))
    assert answer == {"parent": f"{parent}/zfsiscsi", "changed": False}
    assert cli("storage", "init", parent, "--take")[1].startswith(f"{parent}/zfsiscsi was ready")
    shown = parsed(cli("storage", "show", "--json"))
    assert (shown["health"], shown["owner"], shown["images"]) == ("ONLINE", "", 0)
    assert 0 < shown["free"] < shown["total"] < 12 << 30


def test_mistakes_say_what_to_do(cli: Cli, conf: Path) -> None:
    code, _, err = cli("storage", "init", "no such pool")
    assert (code, "is not a ZFS pool or dataset" in err) == (1, True)
    code, _, err = cli("storage", "init", "nopool")
    assert (code, "zpool create" in err) == (1, True)
    files = "store = file"
    text = conf.read_text().replace("store = zfs", files).replace("target = lio", "")
    conf.write_text(text)
    code, _, err = cli("storage", "show")
    assert (code, "does not use ZFS" in err) == (1, True)
    code, _, err = cli("evidence", "list")
    assert (code, "keeps no evidence" in err) == (1, True)


def test_the_configuration_makes_the_rules(cli: Cli, conf: Path, parent: str) -> None:
    store = make_store(load(conf))
    assert isinstance(store, ZfsStore)
    assert store.layout.place == parent
    assert store.rules.of("pc1") == HostRules(spares=1, evidence=2)
    assert (store.rules.pool_free, store.rules.evidence_days, store.rules.evidence_gib) == (
        10, 30, 100,
    )  # fmt: skip


def test_images_beside_a_running_service(cli: Cli, conf: Path, parent: str, source: Path) -> None:
    cli("storage", "init", parent)
    store = opened(conf)
    try:
        code, out, err = cli("image", "import", "win10", source)
        assert code == 0
        assert out.startswith("win10@1: 4.2 MB, sealed, digest ")
        assert "import disk.raw" in err
        swap(store)
        assert parsed(cli("image", "import", "win10", source, "--json"))["version"] == 2
        old, new = parsed(cli("image", "list", "--json"))
        assert (old["users"], old["stands"], new["stands"]) == (["pc1"], False, True)
        assert 1 << 20 < old["used"] < 2 << 20
        code, _, err = cli("image", "delete", "win10@1")
        assert (code, "in use by pc1" in err) == (1, True)
        assert parsed(cli("image", "rollback", "win10@1", "--json"))["stands"] is True
        assert "win10@1 *" in cli("image", "list")[1]
        assert cli("image", "delete", "win10@2")[:2] == (0, "win10@2 is deleted\n")
        shown = cli("storage", "show")[1]
        assert "open by " in shown
        assert "pc1/g1" in shown
        assert "current" in shown
    finally:
        store.close()


def test_evidence_is_listed_and_deleted(cli: Cli, conf: Path, parent: str, source: Path) -> None:
    cli("storage", "init", parent)
    cli("image", "import", "win10", source)
    assert cli("evidence", "list")[1].startswith("no evidence")
    store = opened(conf)
    try:
        for _ in range(2):
            disk = swap(store)
            store.taint(disk)
            write(disk.path, 0)
            swap(store)
            store.discard_retired("pc1", deadline=Deadline(HANG))
        first, second = parsed(cli("evidence", "list", "--json"))
        assert (first["name"], first["host"], first["generation"]) == ("pc1-g1", "pc1", 1)
        assert first["device"] == f"/dev/zvol/{parent}/zfsiscsi/evidence/pc1-g1"
        assert Path(first["device"]).is_block_device()
        assert parsed(cli("evidence", "list", "pc2", "--json")) == []
        table = cli("evidence", "list", "pc1")[1]
        assert "pc1-g1" in table
        assert second["name"] in table
        code, _, err = cli("evidence", "delete", "pc1-g1", "pc1-g2")
        assert (code, err.splitlines()[0]) == (1, "error: there is no evidence pc1-g2")
        assert cli("evidence", "delete", "pc1-g1")[:2] == (0, "pc1-g1 is deleted\n")
        deleted = parsed(cli("evidence", "delete", second["name"], "--json"))
        assert deleted == {"deleted": [second["name"]]}
        assert parsed(cli("evidence", "list", "--json")) == []
    finally:
        store.close()
