"""Malware on pc1 takes card, address and secret of pc2. Whatever it does, pc2 is never dirty."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.cape.client import ServiceError
from cuckoo_zfsiscsi.lab.network import SERVER, host_address, mac
from tests.faults.farm import Farm
from tests.faults.forked import ForkServer
from tests.faults.patience import SERVICE, TEST
from tests.faults.small_lab import CURL
from tests.waiting import HANG

pytestmark = pytest.mark.timeout(TEST)

IMPERSONATOR = Path(__file__).with_name("impersonator.py")
URL = f"http://{SERVER.ip}:8471/boot.ipxe?mac={mac(2)}"
POST = 3.0
"""Seconds that the firmware of pc2 takes before it has a network: malware is there already."""
CARD = "fake0"
NAMED = "on in its network were pc1"
IN_RUN = "someone else asked for its boot script in its name, and got none"
TWICE = "its boot script was asked for a second time"
Record = Callable[[str, object], None]


@pytest.fixture
def farm(tmp_path: Path, forks: ForkServer) -> Iterator[Farm]:
    """pc1 has a run; pc2 is off, and its disk clean."""
    made = Farm(tmp_path, 2, forks, SERVICE)
    try:
        made.open()
        ip(made, "link", "set", "eth0", "down", number=2)
        play(made)
        made.start()
        made.wait(lambda: set(made.states().values()) == {"clean"}, "the first disks")
        made.client.start("pc1", SERVICE)
        yield made
        assert "Traceback" not in made.log.read_text()
    finally:
        made.close()


def ip(farm: Farm, *words: str, number: int) -> None:
    """Change the network of a host."""
    subprocess.run(["ip", "-n", f"{farm.network.name}-{number}", *words], check=True)


def sign(farm: Farm) -> Path:
    """Return the file that is there from each power-on of pc2 on, until malware takes it away."""
    return farm.at / "pc2-is-on"


def play(farm: Farm, *options: str) -> None:
    """Have pc2 boot slower than malware asks."""
    farm.play("pc2", "--post", str(POST), "--sign", str(sign(farm)), *options)


@contextmanager
def impersonator(farm: Farm, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run malware on pc1, which goes on with what it does; it has a second card meanwhile."""
    inside = f"{farm.network.name}-x"
    subprocess.run(["ip", "netns", "add", inside], check=True)
    try:
        card = ["link", "add", "link", "eth0", "name", CARD, "address", mac(2)]
        ip(farm, *card, "netns", inside, "type", "macvlan", "mode", "private", number=1)
        address = str(host_address(2))
        for words in (
            ["addr", "add", f"{address}/24", "dev", CARD],
            ["link", "set", "lo", "up"],
            ["link", "set", CARD, "up"],
        ):
            subprocess.run(["ip", "-n", inside, *words], check=True)
        argv = ["nsenter", f"--net=/run/netns/{inside}", "--", sys.executable, str(IMPERSONATOR)]
        process = subprocess.Popen(
            [*argv, URL, address, *options], stdout=subprocess.PIPE, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()
    finally:
        subprocess.run(["ip", "netns", "delete", inside], check=True)


def got(malware: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Wait until malware has what it wants; return what that was good for."""
    answers: list[dict[str, Any]] = json.loads(malware.communicate(timeout=HANG)[0])
    return answers


def is_clean(farm: Farm) -> bool:
    """Ask pc2, which is up, for its boot sector."""
    url = f"http://{host_address(2)}:8000/sector"
    answer = json.loads(farm.network.run([*CURL, url], timeout=2 * HANG))
    return bool(answer["sha256"] == hashlib.sha256(farm.golden[:512]).hexdigest())


def comes_up_clean(farm: Farm) -> None:
    """See that pc2 is as good as new when nobody disturbs it any more."""
    farm.client.reset("pc2")
    farm.wait(lambda: farm.states()["pc2"] == "clean", "the reset")
    farm.client.start("pc2", SERVICE)
    assert is_clean(farm)
    assert farm.client.stop("pc2", SERVICE)["seen"] == []


def test_asks_before_it_once(farm: Farm, record_property: Record) -> None:
    """Malware waits until pc2 is switched on, asks before its firmware can, writes sector 0, ends.

    Before: pc2 was ready on the disk that malware had written to.
    Now: that boot is void, and the same start boots pc2 from a clean disk.
    """
    with impersonator(farm, "--after", str(sign(farm))) as malware:
        begin = time.monotonic()
        report = farm.client.start("pc2", SERVICE)
        record_property("start, s", round(time.monotonic() - begin, 1))
        assert got(malware) == [{"status": 200, "script": True, "wrote": True}]
    assert is_clean(farm)
    assert report["generation"] == 2
    (void,) = [one for one in farm.client.boots("pc2") if not one["ready"]]
    assert void["stalled"] == f"void: {TWICE}"
    assert f"{TWICE}; {NAMED}" in farm.log.read_text()
    assert farm.client.stop("pc2", SERVICE)["seen"] == []
    assert farm.states()["pc1"] == "running"


def test_asks_before_it_each_time(farm: Farm) -> None:
    """The same at every boot.

    Before: every run of pc2 was on a dirty disk.
    Now: pc2 is quarantined, its reason names pc1, and it is clean when pc1 has ended.
    """
    with impersonator(farm, "--after", str(sign(farm)), "--times", "9"):
        with pytest.raises(ServiceError, match=rf"{TWICE}; {NAMED} \(3 times in a row\)"):
            farm.client.start("pc2", SERVICE)
        assert farm.states()["pc2"] == "quarantined"
        assert NAMED in farm.client.host("pc2")["reason"]
    comes_up_clean(farm)


def test_asks_all_the_time(farm: Farm) -> None:
    """Malware polls the boot listener in the name of pc2 while that is off, as long as it is.

    Before: it got the script at the next start, and pc2 was ready on a dirty disk.
    Now: pc2 is not even switched on, its reason names pc1, and it is clean when pc1 has ended.
    """
    with impersonator(farm, "--times", "100000"):
        farm.wait(lambda: "for the boot script of pc2, which is off" in farm.log.read_text(), "it")
        with pytest.raises(ServiceError, match=rf"pc2 is off, and its boot script .*; {NAMED}"):
            farm.client.start("pc2", SERVICE)
        assert farm.machines["pc2"].pid is None
    comes_up_clean(farm)


def test_asks_after_it(farm: Farm) -> None:
    """Malware asks when pc2 has its script, and has not logged in yet.

    Before: it got the script, too, and wrote to the disk before pc2 used it.
    Now: it gets nothing, and the same start boots pc2 from a clean disk.
    """
    farm.play("pc2", "--after", "5", "--post", "0.1", "--sign", str(sign(farm)))

    def has_script() -> bool:
        boot = farm.client.host("pc2")["last_boot"]
        return boot is not None and "script" in boot["stages"] and not boot["ready"]

    asked = farm.at / "asked"
    with impersonator(farm, "--after", str(asked)) as malware:
        run = start_later(farm)
        farm.wait(has_script, "the script")
        asked.touch()
        assert got(malware) == [{"status": 404, "script": False, "wrote": False}]
        assert run()["generation"] == 2
    assert is_clean(farm)


def start_later(farm: Farm) -> Callable[[], dict[str, Any]]:
    """Ask for a run of pc2 in a thread; return what waits for it."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(farm.client.start, "pc2", SERVICE)
    pool.shutdown(wait=False)
    return lambda: future.result(HANG)


def test_asks_in_its_run(farm: Farm) -> None:
    """Malware asks while pc2 has a run.

    Before: it got the script, and had a session of its own beside that of pc2.
    Now: it gets nothing, the run goes on, and it is told what happened in it, and who was on.
    """
    play(farm, "--busy")
    farm.client.start("pc2", SERVICE)
    with impersonator(farm, "--times", "3") as malware:
        assert not any(answer["script"] for answer in got(malware))
    assert farm.states() == {"pc1": "running", "pc2": "running"}
    assert is_clean(farm)
    seen = farm.client.stop("pc2", SERVICE)["seen"]
    assert f"{IN_RUN} (on in its network: pc1)" in seen
    farm.client.start("pc2", SERVICE)
    assert is_clean(farm)


def test_asks_no_address(farm: Farm) -> None:
    """What boots asks for its script, and never for an address: no firmware does that.

    Before: that was no matter.
    Now: its boot is void.
    """
    play(farm, "--no-dhcp", "--only", "none")
    run = start_later(farm)
    void = f"its boot script was asked for, but no address; {NAMED}"
    farm.wait(lambda: void in farm.log.read_text(), "the end of the boot")
    play(farm)
    assert run()["generation"] == 2
    assert is_clean(farm)
