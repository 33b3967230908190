"""The section of a host that has a power device."""

from __future__ import annotations

from pathlib import Path

from cuckoo_zfsiscsi.config import HostConfig


def host_config(url: object, secret: Path, label: str = "pc1", **keys: object) -> HostConfig:
    """Return it.

    Args:
        url: of the device.
        secret: file with its password.
        label: of the host.
        keys: more of the section.
    """
    return HostConfig.model_validate(
        {
            "section": label,
            "label": label,
            "platform": "windows",
            "ip": "10.99.0.11",
            "arch": "x64",
            "tags": ("win10",),
            "snapshot": "win10",
            "mac": "00:11:22:33:44:55",
            "firmware": "bios",
            "power": str(url),
            "power_signs": "off",
            "power_password_file": secret,
            **keys,
        }
    )
