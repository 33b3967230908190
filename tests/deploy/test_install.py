"""deploy/install and its lists of packages. That it installs was tried in chroots of all four."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.service.plugin import FOLDER
from tests.config.sample import EXAMPLE
from tests.waiting import HANG

DEPLOY = Path(__file__).parents[2] / "deploy"


def install(*options: str) -> subprocess.CompletedProcess[str]:
    argv = [str(DEPLOY / "install"), *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=HANG, check=False)


def test_help() -> None:
    done = install("--help")
    assert done.returncode == 0
    assert "--store file|zfs" in done.stdout


@pytest.mark.parametrize("options", [["--store"], ["--store", "btrfs"], ["--sotre=zfs"], ["zfs"]])
def test_wrong_use(options: list[str]) -> None:
    done = install(*options)
    assert done.returncode == 2
    assert "--store file|zfs" in done.stderr


def test_another_distribution(tmp_path: Path) -> None:
    """It stops before it changes anything."""
    (tmp_path / "os-release").write_text('ID=fedora\nVERSION_ID="42"\n')
    script = f"mount --bind {tmp_path}/os-release /etc/os-release && exec {DEPLOY}/install"
    argv = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: this is fedora 42\nfix: ")
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["server", "zfs", "zfs-debian", "lab", "test"])
def test_lists_of_packages(name: str) -> None:
    """One a line, none twice in one list."""
    text = (DEPLOY / "packages" / name).read_text()
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    found = [line for line in lines if line]
    assert found
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", package) for package in found)
    assert len(set(found)) == len(found)


def test_the_plugin_is_built_where_the_service_looks_for_it() -> None:
    script = (DEPLOY / "install").read_text()
    (folder,) = re.findall(r'pip wheel .*--wheel-dir "\$home/(\S+)"', script)
    assert Path(sys.prefix, folder) == FOLDER, "$home is an environment, as sys.prefix is"


class Host:
    """A server that deploy/install has installed, as far as its firewall is concerned."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self.asked = at / "asked"
        self.asked.touch()
        for name in ("bin", "etc", "home/bin"):
            (at / name).mkdir(parents=True)
        self.conf = at / "etc" / "zfsiscsi.conf"
        self.conf.write_text(EXAMPLE.read_text().replace("00:11:22:33:44:55", "00:11:22:33:44:66"))
        self.program("home/bin/zfsiscsi", f'exec {sys.executable} -m cuckoo_zfsiscsi "$@"')
        self.program("bin/systemctl", f'echo "$*" >>{self.asked}')
        self.program("bin/ss", "exit 0")
        self.program("bin/ip", f'[ "$2" != route ] || exec cat {at}/route; exec /usr/bin/ip "$@"')

    def program(self, name: str, script: str) -> None:
        path = self.at / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def load_firewall(self, *, systemd: bool = True) -> str:
        """Run this function of the script, with a network and a /run of its own."""
        wanted = ("say", "write_example", "not_loaded", "ssh_from_hosts", "load_firewall")
        script = (DEPLOY / "install").read_text()
        functions = []
        for name in wanted:
            found = re.search(rf"^{name}\(\) \{{(.*\}}|\n[\s\S]*?^\}})$", script, re.MULTILINE)
            assert found, name
            functions.append(found[0])
        text = "\n".join([
            "set -euo pipefail", *functions, "mount -t tmpfs none /run",
            "mkdir -p /run/systemd/system" if systemd else "true",
            f"export PATH={self.at}/bin:$PATH",
            f"home={self.at}/home etc={self.at}/etc log={self.at}/log checkout={DEPLOY.parent}",
            "load_firewall",
        ])  # fmt: skip
        argv = ["unshare", "--mount", "--net", "bash", "-c", text]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=HANG, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


ASKED = "enable zfsiscsi-firewall\nreload-or-restart zfsiscsi-firewall\n"
GUESTS = "note: the firewall is not loaded, so guests reach this whole server: "


def test_the_firewall_is_loaded(host: Host) -> None:
    assert host.load_firewall().startswith("the firewall is loaded, and will be at each start")
    assert host.asked.read_text() == ASKED


@pytest.mark.parametrize("store", ["file", "zfs"])
def test_not_that_of_the_example(host: Host, store: str) -> None:
    text = EXAMPLE.read_text()
    if store == "zfs":
        for before, after in (("# store = file", "store = zfs"), ("# target = tgt", "target = lio"),
                              ("path = /", "# path = /"), ("# pool = ", "pool = ")):  # fmt: skip
            text = re.sub(f"^{before}", after, text, flags=re.MULTILINE)
    host.conf.write_text(text)
    said = host.load_firewall()
    assert said.startswith(f"{GUESTS}{host.conf} is still the example\nfix: editor ")
    assert host.asked.read_text() == ""


def test_not_where_nobody_loads_it_again(host: Host) -> None:
    said = host.load_firewall(systemd=False)
    assert said.startswith(f"{GUESTS}systemd does not run here\nfix: zfsiscsi netboot firewall")
    assert host.asked.read_text() == ""


def test_not_with_mistakes(host: Host) -> None:
    host.conf.write_text(host.conf.read_text().replace("ip = 10.99.0.11", "ip = 10.99.0.300"))
    said = host.load_firewall()
    assert "10.99.0.300" in said
    assert f"{GUESTS}there is none for this" in said
    assert host.asked.read_text() == ""


def test_nobody_is_locked_out(host: Host) -> None:
    host.program("bin/ss", 'echo "0 0 10.99.0.1:22 [::ffff:10.99.0.77]:51234"')
    (host.at / "route").write_text("10.99.0.77 dev br-lab src 10.99.0.1 uid 0 \\ cache\n")
    said = host.load_firewall()
    assert said.startswith(f"{GUESTS}10.99.0.77 is logged in by ssh from the hosts' own network")
    assert host.asked.read_text() == ""
    (host.at / "route").write_text("10.99.0.77 via 192.0.2.1 dev eno1 src 192.0.2.9 uid 0\n")
    host.load_firewall()
    assert host.asked.read_text() == ASKED


def test_it_says_why_it_does_not_start(host: Host) -> None:
    host.program("bin/systemctl", "echo 'Job for zfsiscsi-firewall.service failed.'; exit 1")
    said = host.load_firewall()
    assert said.startswith("Job for zfsiscsi-firewall.service failed.\n")
    assert "fix: journalctl -u zfsiscsi-firewall" in said
