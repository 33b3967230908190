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
max_machines_count = 10
max_vmstartup_count = 5

[resultserver]
ip = 192.168.1.1

[timeouts]
default = 200
critical = 60
vm_state = 300
stuck_seconds = 100
""",
    "auxiliary": "[sniffer]\nenabled = yes\nbpf = not arp\n",
    "multi": "[multi]\nmachinery = kvm\n",
    "routing": "[routing]\nroute = none\n",
    "web": "[linux]\nenabled = no\n",
}


def host(number: int, **changes: str) -> dict[str, str]:
    return {
        "label": f"pc{number}", "platform": "windows", "ip": f"203.0.113.{10 + number}",
        "arch": "x64", "tags": "win10,x64", "snapshot": "win10@2", **changes,
    }  # fmt: skip


def view(*hosts: dict[str, str], portal: str = "203.0.113.1", **changes: Any) -> dict[str, Any]:
    given = list(hosts or (host(1), host(2, reserved="yes")))
    labels = [one["label"] for one in given]
    network = {"network": "203.0.113.0/24", "portal": portal, "hosts": labels}
    return {
        "interface": "br-lab", "networks": [network], "portal_port": 3260,
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
