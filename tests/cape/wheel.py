"""A wheel of this package, made in a moment: a real build fetches tools."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import cuckoo_zfsiscsi
from cuckoo_zfsiscsi import __version__

PACKAGE = Path(cuckoo_zfsiscsi.__file__).parent
DATA = f"cuckoo_zfsiscsi-{__version__}.dist-info"


def make(note: str = "") -> bytes:
    """Return it, with what CAPE needs; another note makes another wheel."""
    files = {
        str(path.relative_to(PACKAGE.parent)): path.read_text()
        for path in [*PACKAGE.glob("*.py"), *(PACKAGE / "cape").glob("*.py")]
    }
    meta = f"Metadata-Version: 2.1\nName: cuckoo-zfsiscsi\nVersion: {__version__}\n"
    files[f"{DATA}/METADATA"] = f"{meta}Requires-Dist: requests>=2.31\n\n{note}\n"
    tags = "Root-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{DATA}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: test\n{tags}"
    files[f"{DATA}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{DATA}/RECORD"])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
    return content.getvalue()
