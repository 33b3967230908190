"""A server that is well, and can be made ill: files below a folder, and what commands say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.doctor.checks import chosen
from cuckoo_zfsiscsi.doctor.system import Answer, System
from tests.config.sample import edit, read

Check = Callable[[Config, System], Iterator[Finding]]

KERNEL = "6.1.0-56-amd64"
FILES = {
    "proc/sys/kernel/osrelease": f"{KERNEL}\n",
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
    "proc/modules": (
        "iscsi_target_mod 413696 1 - Live 0x0000000000000000\n"
        "target_core_iblock 24576 0 - Live 0x0000000000000000\n"
        "target_core_mod 471040 2 target_core_iblock,iscsi_target_mod, Live 0x0\n"
        "zfs 4481024 6 - Live 0x0000000000000000 (POE)\n"
    ),
    "proc/mounts": (
        "sysfs /sys sysfs rw,nosuid,nodev,noexec,relatime 0 0\n"
        "configfs /sys/kernel/config configfs rw,nosuid,nodev,noexec,relatime 0 0\n"
        "tracefs /sys/kernel/tracing tracefs rw,nosuid,nodev,noexec,relatime 0 0\n"
    ),
    "proc/meminfo": "MemTotal:       32796012 kB\nMemFree:        20000000 kB\n",
    "proc/spl/kstat/zfs/arcstats": (
        "9 1 0x01 123 33456 6012345678 7012345678\n"
        "name                            type data\n"
        "c_min                           4    1049472384\n"
        "c_max                           4    16791558144\n"
    ),
    "sys/module/zfs/version": "2.1.11-1+deb12u1\n",
    "etc/hostid": "\x01\x02\x03\x04",
    "run/zfsiscsi/dnsmasq.pid": "812\n",
    "var/log/syslog": "",
    "run/systemd/system/x": "",
    "sys/class/net/br-lab/operstate": "up\n",
    "sys/class/net/br-lab/mtu": "1500\n",
    "sys/class/net/br-lab/lower_eno1/mtu": "1500\n",
    "sys/class/net/eno1/operstate": "up\n",
    "sys/class/net/eno1/mtu": "1500\n",
    "sys/class/net/eno1/speed": "10000\n",
    "sys/class/net/eno1/duplex": "full\n",
    "sys/class/net/eno1/device/vendor": "0x8086\n",
    "sys/devices/pci0/sda/queue/physical_block_size": "4096\n",
    "sys/devices/pci0/sda/queue/discard_max_bytes": "2147450880\n",
    "sys/devices/pci0/sda/sda1/partition": "1\n",
    "sys/devices/pci0/sdb/queue/physical_block_size": "512\n",
    "sys/devices/pci0/sdb/queue/discard_max_bytes": "0\n",
}
LINKS = {
    "sys/class/block/sda": "../../devices/pci0/sda",
    "sys/class/block/sda1": "../../devices/pci0/sda/sda1",
    "sys/class/block/sdb": "../../devices/pci0/sdb",
}
ADDRESSES = [
    {"ifname": "lo", "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8}]},
    {"ifname": "br-lab", "addr_info": [{"family": "inet", "local": "10.99.0.1", "prefixlen": 24}]},
]
POOL = {
    "health": "ONLINE",
    "fragmentation": "12",
    "readonly": "off",
    "multihost": "on",
    "cachefile": "-",
}
UNIT = {
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "Result": "success",
    "NRestarts": "0",
    "ProtectSystem": "strict",
    "ReadWritePaths": "-/sys/kernel/config -/etc/target",
    "RuntimeDirectory": "zfsiscsi",
    "StateDirectory": "zfsiscsi",
}
FILTER = '[ "r|^/dev/zd.*|", "r|^/dev/zvol/.*|" ]'
ZDB = """\
other:
    version: 5000
    vdev_tree:
        children[0]:
            ashift: 13
tank:
    version: 5000
    name: 'tank'
    vdev_tree:
        type: 'root'
        children[0]:
            type: 'mirror'
            ashift: 12
"""
SS = """\
udp   UNCONN 0 0  0.0.0.0%br-lab:67  0.0.0.0:*  users:(("dnsmasq",pid=812,fd=4))
udp   UNCONN 0 0  10.99.0.1:69       0.0.0.0:*  users:(("dnsmasq",pid=812,fd=6))
tcp   LISTEN 0 128 127.0.0.1:22      0.0.0.0:*  users:(("sshd",pid=600,fd=3))
tcp   LISTEN 0 128 [::]:22           [::]:*     users:(("sshd",pid=600,fd=4))
"""
RULES = json.dumps({"nftables": [
    {"metainfo": {"version": "1.0.6"}},
    {"table": {"family": "inet", "name": "zfsiscsi", "handle": 7}},
    {"table": {"family": "ip", "name": "filter", "handle": 1}},
]})  # fmt: skip


def table(values: dict[str, str], separator: str) -> str:
    return "".join(f"{key}{separator}{value}\n" for key, value in values.items())


class Server:
    """One server. Every check finds it well until something is changed.

    Args:
        folder: for its files.
        changes: of the sample configuration.
    """

    def __init__(self, folder: Path, *changes: tuple[str, str]) -> None:
        self.root = folder / "root"
        for name, text in FILES.items():
            self.write(name, text)
        for name, target in LINKS.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).symlink_to(target)
        zfs = ("[storage]\n", "[storage]\nstore = zfs\ntarget = lio\npool = tank\n")
        self.config = read(folder, edit(zfs, *changes))
        self.synchronised = True
        self.is_root = True
        self.pool = dict(POOL)
        self.unit = dict(UNIT)
        self.asked: list[str] = []
        parent = "tank/zfsiscsi"
        self.says: dict[str, Answer | None] = {}
        self._said: dict[str, Answer | None] = {
            "zfs version": Answer(0, "zfs-2.1.11-1+deb12u1\nzfs-kmod-2.1.11-1+deb12u1\n"),
            "ps -e -o ni=,comm=": Answer(
                0, "  0 systemd\n  - migration/0\n  0 z_wr_iss\n  0 z_wr_iss\n 19 z_vdev_file\n"
            ),
            "zfs list -Ho name tank": Answer(0, "tank\n"),
            f"zfs get -Hp -o value zfsiscsi:role {parent}": Answer(0, "store\n"),
            f"zfs get -Hpr -o name,value -t filesystem,volume volmode {parent}": Answer(
                0, f"{parent}\tdev\n{parent}/disks\tdev\n{parent}/disks/pc1/g1\tdev\n"
            ),
            f"zfs get -Hp -o value sync {parent}/disks": Answer(0, "disabled\n"),
            "zpool status tank": Answer(0, "  pool: tank\n state: ONLINE\n\n"
                                        "errors: No known data errors\n"),
            "zpool list -HPLv -o name tank": Answer(
                0, "tank\n\tmirror-0\n\t/dev/sda1\n\t/dev/sdb\n\t/var/file\n"
            ),
            "zpool get -Hp -o value autotrim tank": Answer(0, "on\n"),
            "zdb -C": Answer(0, ZDB),
            "zfs get -Hp -o value used,available": Answer(0, f"{10**12}\n{3 * 10**12}\n" * 2),
            "zfs get -Hp -o value used,reservation": Answer(0, "0\n0\n"),
            "lvmconfig": Answer(
                0, f"use_devicesfile=0\nfilter=[ \"a|.*|\" ]\nglobal_filter={FILTER}\n"
            ),
            "systemctl is-active zfs-zed.service": Answer(0, "active\n"),
            "systemctl is-active tgt.service": Answer(3, "inactive\n"),
            "systemctl is-active": Answer(3, "inactive\n"),
            "systemctl is-enabled zfsiscsi-firewall": Answer(0, "enabled\n"),
            "nft --json": Answer(0, RULES),
            "unshare --net": Answer(0, RULES),
            "systemctl is-enabled": Answer(1, "disabled\n"),
            "ip -json address show": Answer(0, json.dumps(ADDRESSES)),
            "ss -Hlnptu": Answer(0, SS),
            "/opt/zfsiscsi/bin/python -c import": Answer(0, ""),
        }  # fmt: skip

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def say(self, command: str, out: str = "", *, code: int = 0, err: str = "") -> None:
        """Decide what commands that begin so say."""
        self.says[command] = Answer(code, out, err)

    @property
    def system(self) -> System:
        return System(
            root=self.root,
            run=self._run,
            clock=lambda: self.synchronised,
            python=Path("/opt/zfsiscsi/bin/python"),
            is_root=self.is_root,
        )

    def find(self, check: Check) -> list[Finding]:
        """Run one check."""
        found = list(check(self.config, self.system))
        assert all(finding.fix for finding in found if finding.level != "ok"), found
        return found

    def problem(self, check: Check) -> Finding:
        """Return the one thing that a check does not like."""
        (one,) = [finding for finding in self.find(check) if finding.level != "ok"]
        return one

    def all(self) -> list[Finding]:
        return [finding for check in chosen(self.config) for finding in self.find(check.look)]

    def _run(self, argv: Sequence[str]) -> Answer | None:
        command = " ".join(argv)
        self.asked.append(command)
        for says in (self.says, self._said):
            for known in sorted(says, key=len, reverse=True):
                if command.startswith(known):
                    return says[known]
        if command.startswith("zpool get -Hp -o property,value"):
            return Answer(0, table(self.pool, "\t"))
        if command.startswith("systemctl show"):
            return Answer(0, table(self.unit, "="))
        return None
