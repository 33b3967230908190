"""The paper's figure 2 with its own servers: the reset, the answer, and the script over TFTP."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.lab.network import BRIDGE, host_address, mac
from tests.faults.small_lab import SmallLab
from tests.waiting import HANG

ATTACKER = Path(__file__).with_name("attacker.py")
INFECT = (
    "import sys, time; from tests.faults.guest import log_in; print('ready', flush=True)\n"
    "disk = log_in(sys.stdin.read()); clean = disk.read(); disk.write(b'x' * 512)\n"
    "print(clean.hex(), flush=True); time.sleep(600)"
)


@pytest.fixture
def lab(lab: SmallLab) -> Iterator[SmallLab]:
    """Start the service. Its run_dir can be entered by tftpd's user, as /run/zfsiscsi can."""
    run_dir = Path(f"/run/zfsiscsi-test-{os.getpid()}")
    text = re.sub(r"(?m)^(power|power_\w+) = .*\n", "", lab.conf.read_text())
    text = re.sub(r"(?m)^run_dir = .*$", f"run_dir = {run_dir}", text)
    lab.conf.write_text(text.replace("[netboot]", "[netboot]\ndhcp = paper") + "reset_on = boot\n")
    lab.start()
    lab.wait(lambda: lab.state() == "clean", "the first disk")
    yield lab
    lab.kill(signal.SIGTERM)
    shutil.rmtree(run_dir)


def there(lab: SmallLab) -> Path:
    return Path("/run/netns") / lab._inside


def ask(lab: SmallLab, number: str, who: str = "ipxe", times: int = 1) -> str | None:
    """Ask DHCP; return the file that every answer names.

    Args:
        lab: to ask in.
        number: of the transaction, hexadecimal.
        who: "ipxe", "uefi" or "other".
        times: to ask, one after the other.
    """
    argv = ["nsenter", f"--net={there(lab)}", "--", sys.executable, str(ATTACKER), "request"]
    argv += [mac(1), str(host_address(1)), number, who, str(times)]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=2 * HANG)
    files: list[str | None] = json.loads(done.stdout)["files"]
    assert len(set(files)) == 1, files
    return files[0]


def tftp(lab: SmallLab, name: str) -> str:
    argv = ["nsenter", f"--net={there(lab)}", "--", "curl", "-s", "-m", str(HANG), "--path-as-is"]
    done = subprocess.run([*argv, f"tftp://10.99.0.1/{name}"], capture_output=True, check=False)
    return done.stdout.decode(errors="replace")


@contextlib.contextmanager
def guest(lab: SmallLab) -> Iterator[Callable[[str], None]]:
    """Start a guest. It logs in when it is given a script, finds a clean disk, and writes to it.

    It is started before it has a script: that must not take any of the seconds within which the
    service expects a login.
    """
    argv = ["nsenter", f"--net={there(lab)}", "--", sys.executable, "-c", INFECT]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as made:
        stdin, stdout = made.stdin, made.stdout
        assert stdin
        assert stdout

        def infect(script: str) -> None:
            stdin.write(script)
            stdin.close()
            assert stdout.readline().strip() == lab.golden[:512].hex()

        try:
            assert stdout.readline() == "ready\n"
            yield infect
        finally:
            made.kill()


def link(lab: SmallLab, state: str) -> None:
    subprocess.run(["ip", "-n", lab._inside, "link", "set", "eth0", state], check=True)


def test_figure_two(lab: SmallLab, tmp_path: Path) -> None:
    generation = int(lab.client.host("pc1")["generation"])
    assert ask(lab, "00000001", "other") == "undionly.kpxe"
    assert ask(lab, "00000003", "uefi") == "ipxe.efi"
    assert lab.state() == "clean", "the ROM's request is no boot"
    with guest(lab) as infect:
        # iPXE asks again while it waits
        assert ask(lab, "0000000a", times=3) == "boot.ipxe"
        script = tftp(lab, "boot.ipxe")
        assert script.startswith("#!ipxe")
        infect(script)
        time.sleep(2.5)  # what comes at once is an echo of the boot's own request
        # The guest's own DHCP, a replay of iPXE's under new numbers, and files of others
        ask(lab, "00000002", "other")
        for number in ("0000000a", "0000000b", "0000000c"):
            ask(lab, number)
        for name in ("scripts/10.99.0.12.ipxe", "../../../etc/passwd", "/etc/passwd", "scripts/"):
            assert tftp(lab, name) == ""
        assert lab.client.host("pc1")["generation"] == generation
        assert "pc1 gets no boot script: it runs, its session goes on" in lab.log.read_text()
        link(lab, "down")  # the reset button: not a word, and nothing of its connections is left
        forget = ["nsenter", f"--net={there(lab)}", "--", "ss", "-HK", "dst", "10.99.0.1"]
        assert subprocess.run(forget, capture_output=True, check=True, timeout=HANG).stdout
    time.sleep(2.5)
    link(lab, "up")
    capture = tmp_path / "capture.txt"
    argv = [*lab.network.prefix, "tcpdump", "-i", BRIDGE, "-n", "-l", "-v", "-tttt"]
    with (
        capture.open("wb") as out,
        subprocess.Popen(
            [*argv, "udp and (port 67 or port 68 or port 69)"], stdout=out, stderr=subprocess.PIPE
        ) as tcpdump,
    ):
        assert tcpdump.stderr
        assert b"listening" in tcpdump.stderr.readline()
        assert ask(lab, "0000000a") == "boot.ipxe"  # iPXE on UEFI has one number for all boots
        again = tftp(lab, "boot.ipxe")
        time.sleep(0.5)
        tcpdump.terminate()
    assert again.startswith("#!ipxe")
    assert again != script
    with guest(lab) as infect:
        infect(again)
        assert lab.client.host("pc1")["generation"] == generation + 1
    # Request, reset, answer: in this order
    log = lab.log.read_text()
    reset = re.findall(r"(?m)^(\S+ \S+) INFO .*pc1: dirty -> clean$", log)[-1]
    text = capture.read_text()
    packets = re.findall(r"(?m)^(\d{4}-\S+ \S+) IP .*\n(?:\s+.*\n)*?.*DHCP-Message.*: (\w+)", text)
    request = next(at for at, kind in packets if kind == "Request")
    answer = next(at for at, kind in packets if kind == "ACK")
    assert moment(request) < moment(reset) < moment(answer), (packets, reset)
    assert str(host_address(1)) in text
    assert "boot.ipxe" in text


def test_floods_and_other_files_are_seen(lab: SmallLab) -> None:
    """With dhcpd and tftpd-hpa as with dnsmasq: see test_forgery."""
    for name in ("../../../etc/passwd", "scripts/10.99.0.12.ipxe"):
        assert tftp(lab, name) == ""
    for how in ("own", "made-up"):
        argv = ["nsenter", f"--net={there(lab)}", "--", sys.executable, str(ATTACKER), "flood"]
        subprocess.run([*argv, mac(1), how, "100"], capture_output=True, check=True, timeout=HANG)
    for line in (
        "pc1 (10.99.0.11) asks TFTP for '../../../etc/passwd', which is no boot file",
        "pc1 (10.99.0.11) asks TFTP for 'scripts/10.99.0.12.ipxe', which is no boot file",
        f"pc1 ({mac(1)}) floods DHCP: 60 requests",
        f"pc1 ({mac(1)}) floods DHCP under made-up addresses",
    ):
        lab.wait(lambda line=line: line in lab.log.read_text(), line)  # type: ignore[misc]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace(",", "."))


def test_a_dead_service_leaves_no_script(lab: SmallLab) -> None:
    """The servers live on, and answer: what they would give away now is of a dirty disk."""
    assert ask(lab, "0000000a") == "boot.ipxe"
    assert tftp(lab, "boot.ipxe").startswith("#!ipxe")
    lab.kill(signal.SIGKILL)
    assert ask(lab, "0000000b") == "boot.ipxe"
    assert tftp(lab, "boot.ipxe") == ""
    lab.start()
    lab.wait(lambda: lab.state() == "clean", "the next disk")
    assert tftp(lab, "boot.ipxe") == ""


def test_a_host_s_own_boot_file(lab: SmallLab) -> None:
    lab.kill(signal.SIGTERM)
    lab.conf.write_text(lab.conf.read_text() + "boot_file = snponly.efi\n")
    lab.start()
    lab.wait(lambda: lab.state() == "clean", "the disk")
    assert ask(lab, "00000001", "uefi") == "snponly.efi"
    assert ask(lab, "0000000a") == "boot.ipxe"
