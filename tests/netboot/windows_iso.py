"""Installation mediums as Windows' are: UDF with the files, ISO 9660 with a note alone."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import pycdlib

NOTE = b'This disc contains a "UDF" file system and requires an operating system that ...\r\n'
CONTENT = {
    "bootmgr": b"BOOTMGR" + os.urandom(4096),
    "boot/bcd": b"regf" + os.urandom(4096),
    "boot/boot.sdi": b"$SDI0001" + os.urandom(100_000),
    "efi/boot/bootx64.efi": b"MZ" + os.urandom(4096),
    "sources/boot.wim": b"MSWIM\0\0\0" + os.urandom(3_000_000),
    "sources/install.wim": b"MSWIM\0\0\0" + os.urandom(5000),
    "setup.exe": b"MZ",
}


def make_iso(path: Path, content: Mapping[str, bytes] = CONTENT) -> Path:
    """Write a medium's image."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, vol_ident="CCCOMA_X64FRE_EN-US_DV9", udf="2.60")
    iso.add_fp(io.BytesIO(NOTE), len(NOTE), "/README.TXT;1")
    made: set[str] = set()
    for name, data in content.items():
        parents = name.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            folder = "/" + "/".join(parents[:depth])
            if folder not in made:
                iso.add_directory(udf_path=folder)
                made.add(folder)
        iso.add_fp(io.BytesIO(data), len(data), udf_path=f"/{name}")
    iso.write(str(path))
    iso.close()
    return path
