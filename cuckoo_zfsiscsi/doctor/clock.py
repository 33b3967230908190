"""The time: records and logs depend on it."""

from __future__ import annotations

from collections.abc import Iterator

from cuckoo_zfsiscsi.check import Finding
from cuckoo_zfsiscsi.config import Config
from cuckoo_zfsiscsi.doctor.system import System


def check_clock(_config: Config, system: System) -> Iterator[Finding]:
    """Ask the kernel, which NTP daemons tell that they keep it right (STA_UNSYNC, adjtimex(2))."""
    if system.clock():
        yield Finding("ok", "time", "is synchronised")
    else:
        what = "is not synchronised: times in records and logs may be wrong"
        yield Finding("warning", "time", what, "apt install systemd-timesyncd; timedatectl")
