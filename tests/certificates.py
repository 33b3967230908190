"""Certificates that differ in one thing each, as servers show them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from cuckoo_zfsiscsi.lab import certificate


@dataclass(frozen=True)
class Pair:
    """A self-signed certificate, which is its own authority, and its key."""

    certificate: Path
    key: Path

    def expire(self) -> None:
        """Let it have ended yesterday."""
        argv = ["openssl", "x509", "-in", str(self.certificate)]
        argv += ["-signkey", str(self.key), "-days", "-1"]
        done = subprocess.run(argv, check=True, capture_output=True)
        self.certificate.write_bytes(done.stdout)


def make(folder: Path, name: str = "IP:127.0.0.1") -> Pair:
    folder.mkdir(exist_ok=True)
    certificate.make(folder, name)
    return Pair(folder / "cert", folder / "key")
