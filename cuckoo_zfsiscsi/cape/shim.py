"""CAPE loads this file as modules/machinery/zfsiscsi.py. It belongs to cuckoo-zfsiscsi."""

from __future__ import annotations

import sys
from pathlib import Path

try:
    from cuckoo_zfsiscsi.cape.machinery import ZfsIscsi
except ImportError as error:
    # CAPE only prints an ImportError, and then dies of "KeyError: 0".
    from lib.cuckoo.common.exceptions import CuckooCriticalError  # type: ignore[import-not-found]

    raise CuckooCriticalError(
        f"machinery zfsiscsi can't be loaded: {error} (fix: zfsiscsi cape install --cape-root "
        f"{Path(__file__).parents[2]} --cape-python {sys.executable})"
    ) from error

__all__ = ["ZfsIscsi"]
