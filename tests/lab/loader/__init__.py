"""A kernel in wimboot's place: it says which files it was given, and what the iBFT says."""

from __future__ import annotations

import re
import subprocess
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent
FLAGS = [
    *("-m32", "-march=i386", "-Os", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib"),
    *("-fno-pic", "-no-pie", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"),
    *("-Wl,--build-id=none", "-Wl,--oformat=binary", "-Wl,-z,noexecstack"),
]
END = "loader: end"


def build(path: Path) -> Path:
    """Compile it."""
    sources = [str(SOURCES / name) for name in ("setup.S", "main.c")]
    argv = ["gcc", *FLAGS, f"-Wl,-T,{SOURCES / 'link.ld'}", "-o", str(path), *sources]
    subprocess.run(argv, check=True, timeout=60)
    return path


@dataclass(frozen=True)
class Found:
    """What it said."""

    names: list[str]
    """IQNs in the iBFT."""
    files: dict[str, tuple[int, int]]
    """By name: bytes, and CRC-32."""

    @classmethod
    def read(cls, console: str) -> Found:
        """Read it from the console."""
        files = re.findall(r"^file (\S+) ([0-9a-f]{8}) ([0-9a-f]{8})\r?$", console, re.MULTILINE)
        return cls(
            re.findall(r"^ibft (\S+)\r?$", console, re.MULTILINE),
            {name: (int(size, 16), int(crc, 16)) for name, size, crc in files},
        )


def facts(files: Mapping[str, bytes]) -> dict[str, tuple[int, int]]:
    """Return what it must say of files."""
    return {name: (len(data), zlib.crc32(data)) for name, data in files.items()}
