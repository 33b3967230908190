"""A folder that looks like CAPE's, and what a service says of its hosts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

DEFAULTS = {
    "cuckoo": """\
[cuckoo]
# Which machinery.
machinery = kvm
machinery_screenshots = off
fail_unserviceable = on
scaling_semaphore = off
memory_dump = off
max_machines_count = 10
max_vmstartup_count = 5
rooter = /tmp/cuckoo-rooter

[resultserver]
ip = 192.168.1.1
port = 2042
multiworker = no
base_port = 2042

[timeouts]
default = 200
critical = 60
vm_state = 300
stuck_seconds = 100
""",
    "auxiliary": "[sniffer]\nenabled = yes\nbpf = not arp\n",
    "multi": "[multi]\nmachinery = kvm\n",
    "processing": "[memory]\nenabled = no\n",
    "routing": """\
[routing]
enable_pcap = no
route = none
internet = none

[inetsim]
enabled = no
server = 192.168.1.2
interface = virbr1

[tor]
enabled = no
interface = virbr1

[vpn]
enabled = no
vpns = vpn0

[vpn0]
name = vpn0
interface = tun0

[socks5]
enabled = no
proxies = socks_ch

[socks_ch]
name = ch_socks

[nexthop]
enabled = no
gateways = gw1

[gw1]
interface = ens6
""",
    "web": "[linux]\nenabled = no\n",
}


def host(number: int, **changes: str) -> dict[str, str]:
    return {
        "label": f"pc{number}", "platform": "windows", "ip": f"203.0.113.{10 + number}",
        "arch": "x64", "tags": "win10,x64", "snapshot": "win10@2", **changes,
    }  # fmt: skip


def network(number: int, *labels: str, **changes: Any) -> dict[str, Any]:
    """Return one of the hosts' networks."""
    return {
        "network": f"203.0.{number}.0/24", "portal": f"203.0.{number}.1",
        "section": "netboot" if number == 113 else f"network:vlan{number}", "gateways": [],
        "hosts": list(labels), "ports": [3270 + int(label[2:]) for label in labels], **changes,
    }  # fmt: skip


def view(*hosts: dict[str, str], **changes: Any) -> dict[str, Any]:
    """Return what a service on another server says; of one network if no other is told."""
    given = list(hosts or (host(1), host(2, reserved="yes")))
    labels = [one["label"] for one in given]
    return {
        "interface": "br-lab", "networks": [network(113, *labels)],
        "start_timeout": 300.0, "stop_timeout": 60.0, "hosts": given, **changes,
    }  # fmt: skip


def configure(root: Path, name: str, text: str) -> None:
    """Have CAPE read this last."""
    folder = root / f"custom/conf/{name}.conf.d"
    folder.mkdir(exist_ok=True)
    (folder / "later.conf").write_text(text)


def make(root: Path) -> Path:
    """Make the folder; return it."""
    for folder in ("lib/cuckoo/common", "modules/machinery", "conf/default", "custom/conf"):
        (root / folder).mkdir(parents=True)
    (root / "cuckoo.py").touch()
    (root / "lib/cuckoo/common/abstracts.py").touch()
    for name, text in DEFAULTS.items():
        (root / f"conf/default/{name}.conf.default").write_text(text)
    return root


def fingerprint(root: Path) -> dict[str, bytes]:
    """Return every file's content."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def is_root() -> bool:
    return os.geteuid() == 0
