"""What the paper measured, to be shown beside what is measured here.

"Bootable system snapshot for physical machines", IPSJ Computer Security Symposium 2017.
"""

from __future__ import annotations

TABLE_4: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("VMware ESXi 6.0", (10, 10, 10)),
    ("KVM (Linux 4.4)", (13, 12, 13)),
    ("Deep Freeze 8.38", (39, 39, 39)),
    ("FOG 1.2", (646, 625, 611)),
    ("ZFS + iSCSI", (45, 42, 45)),
)
"""Table 4: recovery times in seconds, three runs each."""
MACHINE = "HP ProDesk, Windows 7"
"""The machine of table 4; the two VMs were guests of an HP DL80."""
METHOD = """\
recovery: the paper's definition (section 6.2), from the moment RPC (TCP 135) no longer accepts a
DCE/RPC bind until it accepts one again, probed from outside every 0.1 s. One lost probe is no
outage, two are; it begins with the first.
Comparable: that period, on the same machine and guest. Not comparable: other hardware, another
guest, an emulated host (its boot is several times slower); and the paper's outage began with a
shutdown of the OS, while here power is cut, which saves the seconds of shutting down.
RPC alone proves no reset: what proves it is listed with each run (generation), see docs."""
"""What is and what is not comparable."""
