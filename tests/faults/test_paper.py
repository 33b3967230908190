"""reset_on = boot with the real pieces: a boot is reset once, and nothing else ever is."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cuckoo_zfsiscsi.lab.network import mac
from cuckoo_zfsiscsi.netboot.script import render_waits
from tests.faults.patience import SERVICE
from tests.faults.small_lab import CURL, SmallLab

URL = f"http://10.99.0.1:8471/boot.ipxe?mac={mac(1)}"


@pytest.fixture
def paper(lab: SmallLab) -> Iterator[SmallLab]:
    """Start the service for a host without a power device."""
    text = re.sub(r"(?m)^(power|power_\w+) = .*\n", "", lab.conf.read_text())
    lab.conf.write_text(text + "reset_on = boot\n")
    lab.start()
    lab.wait(lambda: lab.state() == "clean", "the first disk")
    yield lab
    assert "Traceback" not in lab.log.read_text()


@pytest.fixture
def driven(lab: SmallLab) -> Iterator[SmallLab]:
    """Start the service for a host that CAPE's machinery may drive too."""
    lab.conf.write_text(lab.conf.read_text() + "reset_on = boot\n")
    lab.start()
    lab.wait(lambda: lab.state() == "clean", "the first disk")
    yield lab
    assert "Traceback" not in lab.log.read_text()


def host(lab: SmallLab) -> dict[str, Any]:
    return lab.client.host("pc1")


def boot(lab: SmallLab) -> int:
    """Press the power button of a host that is off; return the generation that it runs."""
    lab.machine.on()
    lab.wait(lambda: lab.state() == "ready", "the boot")
    return int(host(lab)["generation"])


def wait_for_generation(lab: SmallLab, wanted: int) -> None:
    lab.wait(lambda: host(lab)["generation"] == wanted, "the reset")
    lab.wait(lambda: lab.state() == "ready", "the boot")


def is_on(lab: SmallLab) -> bool:
    return lab.machine.pid is not None


def is_clean(lab: SmallLab) -> bool:
    wanted = hashlib.sha256(lab.golden[:512]).hexdigest()
    return bool(lab.ask_guest("/sector")["sha256"] == wanted)


def reset_button(lab: SmallLab) -> None:
    """Have the machine go without a word, and start anew a little later."""
    inside = ["ip", "-n", lab._inside]
    subprocess.run([*inside, "link", "set", "eth0", "down"], check=True)  # no FIN, no RST
    lab.machine.off()
    time.sleep(1.5)  # the firmware's own time
    subprocess.run([*inside, "link", "set", "eth0", "up"], check=True)
    lab.machine.on()


def test_a_mere_reset_gives_a_clean_disk(paper: SmallLab) -> None:
    first = boot(paper)
    for number in range(1, 4):
        assert is_clean(paper)
        paper.ask_guest("/infect", "POST")
        assert not is_clean(paper)
        reset_button(paper)
        wait_for_generation(paper, first + number)
    assert is_clean(paper)
    assert host(paper)["generation"] == first + 3, "one reset for each boot, no more"
    boots = json.loads(paper.run_cli("boots", "pc1", "--json"))
    assert [one["generation"] for one in boots] == [first + n for n in (3, 2, 1, 0)]
    assert all(one["ready"] for one in boots)


def ask_together(lab: SmallLab, crowd: int) -> list[str]:
    """Ask for the boot script, so many at once; return the answers."""
    argv = ["nsenter", f"--net=/run/netns/{lab._inside}", "--", *CURL, URL]
    askers = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(crowd)]
    return [asker.communicate()[0] for asker in askers]


def test_a_running_host_is_not_reset_whoever_asks(paper: SmallLab) -> None:
    generation = boot(paper)
    paper.ask_guest("/infect", "POST")
    for _ in range(3):
        assert paper.fetch_as_guest(URL) == "not found\n"
    # Many at once. Of a crowd, those whose answer takes a while are told to ask again
    crowd = 6
    while crowd:
        answers = ask_together(paper, crowd)
        assert set(answers) <= {"not found\n", *render_waits()}
        crowd = crowd - answers.count("not found\n")
    assert host(paper)["generation"] == generation
    assert not is_clean(paper), "its disk was taken away"
    assert paper.state() == "ready"
    assert "pc1 gets no boot script: it runs, its session goes on" in paper.log.read_text()


def test_who_asks_again_at_once_gets_another_disk_and_secret(paper: SmallLab) -> None:
    """It may be someone else, with the host's card and address: no script is given twice."""
    before = int(host(paper)["generation"])
    scripts = [paper.fetch_as_guest(URL) for _ in range(2)]
    assert all(script.startswith("#!ipxe") for script in scripts)
    assert len({tuple(re.findall(r"set password (\S+)", script)) for script in scripts}) == 2
    assert host(paper)["generation"] == before + 1


def test_a_second_request_in_the_login_window_changes_nothing(paper: SmallLab) -> None:
    """It comes after the script was given and before the login: held, then refused."""
    paper.play("--after", "3")  # after our request, and well before LOGIN is over
    paper.machine.on()
    paper.wait(lambda: paper.state() == "booting", "the request")
    generation = host(paper)["generation"]
    late = paper.fetch_as_guest(URL)
    assert late == "not found\n"
    paper.wait(lambda: paper.state() == "ready", "the boot")
    assert host(paper)["generation"] == generation
    assert is_clean(paper)


def test_the_service_is_killed_under_a_running_host(paper: SmallLab) -> None:
    """Its guest, which runs on from memory, gets no script; its next boot does."""
    boot(paper)
    paper.kill()
    paper.restart()
    paper.wait(lambda: paper.state() == "clean", "the disk")
    before = int(host(paper)["generation"])
    assert paper.fetch_as_guest(URL) == "not found\n"
    assert "its rpc answers" in paper.log.read_text()
    reset_button(paper)
    paper.wait(lambda: paper.state() == "ready", "the boot")
    assert host(paper)["generation"] == before
    assert is_clean(paper)


def test_nothing_to_start_or_stop(paper: SmallLab) -> None:
    assert "no power device: only people can start it" in paper.run_cli("start", "pc1", code=1)
    assert paper.run_cli("stop", "pc1").startswith("pc1: clean")
    assert "no power device" in paper.run_cli("power", "pc1", "status", code=1)
    assert "no maintenance" in paper.run_cli("maintenance", "pc1", "on", code=1)
    shown = json.loads(paper.run_cli("hosts", "pc1", "--json"))
    assert shown["last_boot"] is None


def test_start_and_stop_power_cycle_and_each_boot_is_reset_once(driven: SmallLab) -> None:
    """As CAPE's machinery calls them, and a person's reboot in between."""
    boot(driven)
    driven.ask_guest("/infect", "POST")
    for number in range(2, 5):
        report = driven.client.start("pc1", SERVICE)
        assert (report["generation"], report["ready"]) == (number, True)
        assert {"power", "script", "login", "rpc", "agent"} <= set(report["stages"])
        assert is_clean(driven)
        driven.ask_guest("/infect", "POST")
        assert driven.fetch_as_guest(URL) == "not found\n", "a forged request within the run"
        assert not is_clean(driven)
        assert host(driven)["run"]
        assert driven.client.stop("pc1", SERVICE)["run"] is False
        assert not is_on(driven)
    assert [one["generation"] for one in driven.client.boots("pc1")] == [4, 3, 2, 1]
    driven.wait(lambda: driven.state() == "clean", "the next disk")
    assert boot(driven) == 5


def test_the_service_is_killed_in_a_run(driven: SmallLab) -> None:
    """Its guest loses its disk, and CAPE's stop() of what it still believes in proves it off."""
    before = driven.client.start("pc1", SERVICE)["generation"]
    driven.ask_guest("/infect", "POST")
    driven.kill()
    driven.restart()
    driven.wait(lambda: driven.state() == "clean", "the disk")
    assert is_on(driven)
    driven.client.stop("pc1", SERVICE)
    assert not is_on(driven)
    assert driven.client.start("pc1", SERVICE)["generation"] > before
    assert is_clean(driven)


def test_no_image_no_boot(paper: SmallLab, tmp_path: Path) -> None:
    paper.kill()
    paper.conf.write_text(paper.conf.read_text().replace("snapshot = golden", "snapshot = win10"))
    paper.restart()
    paper.wait(lambda: paper.state() == "quarantined", "the quarantine")
    assert paper.fetch_as_guest(URL) == "not found\n"
    assert "win10" in paper.log.read_text()
