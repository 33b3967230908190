"""How the lab runs CAPE and asks it, with programs that look like CAPE's from outside."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import requests

from cuckoo_zfsiscsi.deadline import Deadline
from cuckoo_zfsiscsi.errors import DeadlineExceededError, LabError
from cuckoo_zfsiscsi.lab import cape_client, cape_sample
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.cape_client import CapeClient
from cuckoo_zfsiscsi.lab.network import Network
from cuckoo_zfsiscsi.lab.real_cape import RealCape, beside, default_python
from cuckoo_zfsiscsi.lab.watch import inside
from tests.lab import fake_cape
from tests.waiting import HANG

PYTHON = Path(sys.executable)


@pytest.fixture
def cape(tmp_path: Path, network: Network) -> Iterator[RealCape]:
    root = fake_cape.make(tmp_path / "root")
    made = RealCape(root, PYTHON, tmp_path / "cape", beside(network))
    made.prepare()
    yield made
    made.stop()


@pytest.fixture
def client(cape: RealCape, network: Network, monkeypatch: pytest.MonkeyPatch) -> CapeClient:
    monkeypatch.setattr(cape_client, "PAUSE", 0.05)
    cape.start()
    return CapeClient(cape)


def test_the_checkout_is_copied_and_not_changed(cape: RealCape, tmp_path: Path) -> None:
    assert (cape.tree / "web/storage/kept").is_file()
    assert not (cape.tree / ".git").exists()
    assert not (cape.tree / "storage").exists()
    assert (tmp_path / "root/storage/old").is_file()
    assert (
        f"connection = sqlite:///{tmp_path}/cape/cape.db" in (cape.conf / "cuckoo.conf").read_text()
    )


def test_what_is_no_cape(tmp_path: Path, network: Network) -> None:
    with pytest.raises(LabError, match="is no checkout of CAPE"):
        RealCape(tmp_path, PYTHON, tmp_path / "cape", beside(network)).prepare()
    root = fake_cape.make(tmp_path / "root")
    with pytest.raises(LabError, match=r"is not there .*CAPE_PYTHON"):
        RealCape(root, tmp_path / "python", tmp_path / "cape", beside(network)).prepare()


def test_python_of_a_checkout(tmp_path: Path) -> None:
    assert default_python(tmp_path) == PYTHON
    own = tmp_path / ".venv/bin/python"
    own.parent.mkdir(parents=True)
    own.touch()
    assert default_python(tmp_path) == own


def test_submissions_and_their_end(client: CapeClient, tmp_path: Path) -> None:
    sample = cape_sample.write(tmp_path, "one")
    assert [submit(sample) for submit in client.ways.values()] == [7, 8, 9]
    assert client.wait(1, Deadline(HANG)) == {"status": "reported", "errors": []}
    assert client.machines() == [{"label": "pc1"}]
    assert client.report(1) == {"info": {}}


def test_what_cape_refuses(client: CapeClient, tmp_path: Path) -> None:
    sample = tmp_path / "refused.py"
    sample.touch()
    for submit in (client.by_rest, client.by_form):
        with pytest.raises(LabError, match="CAPE took no sample: ' no '"):
            submit(sample)
    with pytest.raises(LabError, match="Task not found"):
        client.view(9)
    with pytest.raises(LabError, match="sent no object"):
        client.report(2)
    with pytest.raises(LabError, match="answered 500"):
        client.report(3)


def test_a_scheduler_that_is_killed_and_comes_back(cape: RealCape) -> None:
    cape.start_scheduler()
    cape.kill_scheduler(signal.SIGKILL)
    cape.start_scheduler()
    cape.kill_scheduler(signal.SIGTERM)
    assert cape.logs[0].read_text().count("Waiting for analysis tasks") == 2


def test_a_scheduler_that_does_not_start(cape: RealCape) -> None:
    (cape.tree / "cuckoo.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(LabError, match=r"ended with status 3.*scheduler\.log"):
        cape.start_scheduler()


def test_a_task_that_does_not_end(client: CapeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cape_client, "ENDED", ())
    with pytest.raises(DeadlineExceededError, match="task 1, "):
        client.wait(1, Deadline(0.3))


def test_c2_hears_what_samples_tell(network: Network, tmp_path: Path) -> None:
    url = f"http://{cape_sample.ADDRESS}:{cape_sample.PORT}"
    with cape_sample.c2(network) as heard:
        for query in ("before=none", "after=found"):
            ask = partial(requests.get, f"{url}/x?{query}", timeout=HANG)
            assert inside(network, ask).text == "ok"
    assert heard.told == {"x": {"before": "none", "after": "found"}}
    assert heard.callers == {"x": {str(net.SERVER.ip)}}


def test_an_evasive_sample_looks_before_anything_else(tmp_path: Path) -> None:
    plain = cape_sample.write(tmp_path, "x", seconds=3).read_text()
    evasive = cape_sample.write(tmp_path, "x", evasive=True).read_text()
    for text in (plain, evasive):
        compile(text, "x", "exec")
    assert "sys_vendor" not in plain
    assert evasive.index("sys_vendor") < evasive.index("urlopen")
