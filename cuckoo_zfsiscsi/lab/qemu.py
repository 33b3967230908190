"""How QEMU is told to be a physical host: a NIC that boots, 256 MiB, no disk of any kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from cuckoo_zfsiscsi.errors import LabError
from cuckoo_zfsiscsi.lab import network as net
from cuckoo_zfsiscsi.lab.machine import Machine
from cuckoo_zfsiscsi.lab.plain_rom import IN, OUT

Firmware = Literal["bios", "uefi"]
Rom = Literal["ipxe", "plain", "http"]

MEMORY = 256
"""MiB."""
CPU = "qemu64,+rdrand"
"""With a source of random numbers, as any CPU of today: without, the guest waits for chance."""
PHYSICAL = (
    *("-smbios", "type=0,vendor=Dell Inc.,version=1.21.0"),
    *("-smbios", "type=1,manufacturer=Dell Inc.,product=OptiPlex 7040"),
)
"""SMBIOS as a physical host has it. Without, it says QEMU: what malware looks for."""
OVMF = Path("/usr/share/OVMF")
FIRMWARE_OPTIONS = {
    # Everything to the serial console. The NIC's ROM is iPXE itself.
    "bios": ["-machine", "pc,graphics=off"],
    # Without a ROM the NIC is booted by UEFI's own PXE, as on most physical hosts
    "uefi": ["-machine", "pc"],
}

PLAIN_ROM = [
    *("-chardev", f"socket,id=out,path={OUT}", "-chardev", f"socket,id=in,path={IN}"),
    # This order: the other way round a frame would come by again, for ever
    *("-object", "filter-redirector,id=back,netdev=boot,queue=rx,indev=in"),
    *("-object", "filter-redirector,id=away,netdev=boot,queue=rx,outdev=out"),
]
"""What the host sends takes the way through lab.plain_rom."""
HTTP_BOOT = [
    word
    for version in ("IPv4", "IPv6")
    for word in ("-fw_cfg", f"name=opt/org.tianocore/{version}PXESupport,string=n")
]
"""OVMF tries a card by PXE before it tries it by HTTP, unless it is told to leave PXE out."""


def create(
    state: Path,
    number: int,
    firmware: Firmware,
    network: net.Network,
    *,
    rom: Rom = "ipxe",
    extra: Sequence[str] = (),
    memory: int = MEMORY,
) -> Machine:
    """Make the emulated host of this number, powered off.

    Args:
        state: its directory, made here; one that exists is used again.
        number: 1, 2, ...: decides about its MAC and its port, see lab.network.
        firmware: what starts it.
        network: what it is plugged into, whoever switches it on.
        rom: what boots the network card. With BIOS: QEMU's own, or one that hides that it is
            iPXE; that needs lab.plain_rom to run in the machine's directory. With UEFI: "http" is
            its HTTP boot, anything else its PXE.
        extra: more arguments for QEMU.
        memory: MiB.

    Raises:
        LabError: no UEFI firmware on this machine.
    """
    machine = Machine(state)
    machine.state.mkdir(parents=True, exist_ok=True)
    at = machine.state
    nic = f"virtio-net-pci,netdev=boot,mac={net.mac(number)},bootindex=1"
    # From its directory: a socket's path may have 107 bytes at most (unix(7))
    argv = [*network.prefix, "env", "-C", str(at), "qemu-system-x86_64"]
    argv += ["-name", f"host{number}", *FIRMWARE_OPTIONS[firmware]]
    argv += ["-accel", "tcg,thread=single", "-cpu", CPU, "-smp", "1", "-m", str(memory)]
    argv += ["-nodefaults", "-display", "none", "-vga", "none", "-boot", "order=n"]
    argv += ["-uuid", f"00000000-0000-4000-8000-{number:012d}"]
    argv += ["-serial", f"file:{at / 'console'}"]
    argv += ["-qmp", "unix:qmp,server=on,wait=off"]
    argv += ["-daemonize", "-pidfile", str(at / "pid")]
    tap = net.tap(number)
    argv += ["-netdev", f"tap,id=boot,ifname={tap},script=no,downscript=no"]
    if firmware == "bios" and rom == "plain":
        argv += PLAIN_ROM
    if firmware == "uefi":
        nic += ",romfile="
        if rom == "http":
            argv += HTTP_BOOT
        variables = at / "uefi-variables.fd"
        try:
            if not variables.exists():
                shutil.copyfile(OVMF / "OVMF_VARS_4M.fd", variables)
        except FileNotFoundError as error:
            raise LabError(f"{error.filename} is missing", fix="apt-get install ovmf") from None
        code = OVMF / "OVMF_CODE_4M.fd"
        argv += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={code}"]
        argv += ["-drive", f"if=pflash,format=raw,unit=1,file={variables}"]
    argv += ["-device", nic, *extra]
    (at / "argv.json").write_text(json.dumps(argv))
    return machine
