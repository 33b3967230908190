"""The model of one host's section. Descriptions and examples make the manual."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from cuckoo_zfsiscsi.config import fields as f
from cuckoo_zfsiscsi.config.base import Section
from cuckoo_zfsiscsi.config.default_route import Dns, Gateway, dns_field, gateway_field
from cuckoo_zfsiscsi.config.powerurl import PowerUrl
from cuckoo_zfsiscsi.config.secrets import read_secret_file
from cuckoo_zfsiscsi.config.ways import Ways


class HostConfig(Section):
    """[HOST]: one section per host, named like its label."""

    # resultserver: older CAPE start-up checks; mem_profile: its volatility settings.
    capes_own = frozenset({"resultserver", "mem_profile"})
    not_keys = frozenset({"section"})

    section: str
    label: f.Label = Field(
        description="The host's name: a-z, 0-9 and -. The same as the section's.",
        examples=["pc1"],
    )
    platform: Literal["windows", "linux"] = Field(
        description="Operating system in the image.", examples=["windows"]
    )
    ip: f.Address = Field(
        description="The host's IPv4 address, given to it by DHCP.", examples=["10.99.0.11"]
    )
    arch: Literal["x86", "x64"] = Field(
        description="Architecture of the operating system.", examples=["x64"]
    )
    tags: f.Tags = Field(
        (),
        description="CAPE's tags, with commas. A Windows host needs its version: winxp, win7, "
        "win10 or win11; and x64 to be given 64-bit samples.",
        examples=["win10,x64"],
    )
    snapshot: f.ImageRef = Field(
        description="The image to boot: NAME for its newest sealed version, or NAME@VERSION.",
        examples=["win10"],
    )
    mac: f.Mac = Field(
        description="MAC address of the network card that boots, best with colons.",
        examples=["00:11:22:33:44:55"],
    )
    network: f.NetworkName = Field(
        "netboot",
        description="The network that the host boots from: vlan20 for that of the section "
        "[network:vlan20]; netboot for that of [netboot]. If it is not set: the network of the "
        "host's own name, if there is one.",
        examples=["vlan20"],
    )
    portal_port: f.Port | None = Field(
        None,
        description="TCP port at which this host alone logs in to its disk, if another than "
        "[storage] portal_port plus the number that its address has in its network.",
        examples=["4011"],
    )
    gateway: Gateway | None = gateway_field("If it is not set, that of its network.")
    dns: Dns | None = dns_field("If it is not set, that of its network.")
    network_via: Literal["dhcp", "agent"] = Field(
        "dhcp",
        description="How the running system is told gateway and dns: dhcp, when it asks for its "
        "address; agent, through CAPE's agent once the host is ready, for a system that takes its "
        "address from the iBFT and asks no DHCP. See docs/routes.rst.",
        examples=["agent"],
    )
    firmware: Literal["bios", "uefi"] = Field(
        "bios", description="How the host's firmware boots.", examples=["bios"]
    )
    boot_file: f.BootFile | None = Field(
        None,
        description="iPXE file inside tftp_root for this host, if it needs another than "
        "undionly.kpxe (bios) or ipxe.efi (uefi): some Intel cards need snponly.efi.",
        examples=["snponly.efi"],
    )
    power: f.Power = Field(
        (),
        description="How power is switched: DRIVER://USER@ADDRESS[:PORT][?OPTION=VALUE]. More of "
        "them, with commas, are tried in turn; those with ``and`` between them are used together. "
        "Never with a password. See docs/power.rst.",
        examples=["ipmi://admin@10.98.0.11"],
    )
    power_on: f.Power | None = Field(
        None, description="How it is switched on, if in another way than power.", examples=["wol"]
    )
    power_off: f.Power | None = Field(
        None,
        description="How it is switched off, if in another way than power.",
        examples=["pdu+shelly_gen2://10.98.0.50?outlet=0"],
    )
    power_password_file: f.AbsolutePath | None = Field(
        None,
        description="File with the password for power, mode 600. The service's environment "
        "variable ZFSISCSI_POWER_PASSWORD_LABEL (PC_1 for pc-1) goes before it, and "
        "?password_file= in a URL before both.",
        examples=["/etc/zfsiscsi/pc1.password"],
    )
    power_signs: Annotated[
        tuple[Literal["arp", "icmp", "rpc", "agent", "session"], ...],
        BeforeValidator(f.split_or_off),
        AfterValidator(f.unlike),
    ] = Field(
        ("arp", "icmp", "rpc", "agent", "session"),
        description="What shows that a host lives though its power is said to be off. A host "
        "with Intel AMT may answer arp and icmp while it is off. off: nothing, the device's word "
        "alone counts.",
        examples=["rpc,agent,session"],
    )
    power_silence: f.Seconds = Field(
        10.0,
        description="Seconds for which all these signs must be missing when no power device can "
        "tell that the host is off.",
        examples=["10"],
    )
    prewarm: f.Switch = Field(
        False,
        description="Boot the clean host while it is idle, so that a run begins at once.",
        examples=["no"],
    )
    prewarm_max_age: f.Seconds = Field(
        14400.0,
        description="Seconds for which a booted host stands by at most; then it is booted anew "
        "from a clean disk. A run that begins meanwhile takes it as it is.",
        examples=["14400"],
    )
    reset_on: Literal["start", "boot"] = Field(
        "start",
        description="When a clean disk is put in place: start, before each run, and a reboot "
        "within the run keeps the disk; boot, at every boot, whoever switched the host on: "
        "neither machinery nor power device are needed. See docs/paper-mode.rst.",
        examples=["start"],
    )
    reset: Literal["swap", "rollback"] = Field(
        "swap",
        description="How a clean disk is put in place with store = zfs: swap, to one made ahead, "
        "in the same time whatever was written; rollback, the paper's, in place.",
        examples=["swap"],
    )
    spares: Annotated[int, Field(ge=1, le=16)] = Field(
        1, description="Clean disks kept ready, with store = zfs.", examples=["1"]
    )
    evidence: Annotated[int, Field(ge=0, le=1000)] = Field(
        0,
        description="Dirty disks of past runs to keep, read-only, with store = zfs; see also "
        "evidence_days and evidence_gib.",
        examples=["3"],
    )
    mutual_chap: f.Switch = Field(
        False,
        description="The target proves itself to the host, too (mutual CHAP, which iPXE calls "
        "reverse CHAP): iPXE, and an operating system that reads the iBFT, then use no other "
        "machine's disk. Names and secrets are new at each reset.",
        examples=["no"],
    )
    disk_vendor: Annotated[f.DiskName, Field(min_length=1, max_length=8)] = Field(
        "ATA", description="Vendor that the host's disk shows to its guest.", examples=["ATA"]
    )
    disk_model: Annotated[f.DiskName, Field(min_length=1, max_length=16)] = Field(
        "Samsung SSD 870",
        description="Model that the host's disk shows, up to 16 characters.",
        examples=["Samsung SSD 870"],
    )
    disk_revision: Annotated[f.DiskName, Field(min_length=1, max_length=4)] = Field(
        "SVT0", description="Firmware revision that the host's disk shows.", examples=["SVT0"]
    )
    disk_serial: Annotated[f.DiskName, Field(min_length=1, max_length=20)] | None = Field(
        None,
        description="Serial number that the host's disk shows; by default one made from its label.",
        examples=["S5Y1NX0R123456A"],
    )
    ready: Annotated[
        tuple[Literal["rpc", "agent"], ...],
        BeforeValidator(f.split_list),
        AfterValidator(f.unlike),
        Field(min_length=1),
    ] = Field(
        ("rpc", "agent"),
        description="What must answer before the host counts as ready.",
        examples=["rpc,agent"],
    )
    rpc_port: f.Port = Field(
        135, description="TCP port of the RPC endpoint mapper.", examples=["135"]
    )
    agent_port: f.Port = Field(8000, description="TCP port of CAPE's agent.", examples=["8000"])
    boot_timeout: f.Seconds = Field(
        180.0, description="Seconds from power-on until ready.", examples=["180"]
    )
    power_timeout: f.Seconds = Field(
        60.0, description="Seconds for one power switch, its proof included.", examples=["60"]
    )
    power_interval: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = Field(
        1.0,
        description="Least pause, in seconds, between two commands to one power device.",
        examples=["1"],
    )
    reserved: f.Switch = Field(
        False,
        description="CAPE uses the host only for tasks that ask for it by name.",
        examples=["no"],
    )
    interface: f.Interface | None = Field(
        None,
        description="Network interface on which CAPE records this host, if not that of [zfsiscsi].",
        examples=["br-lab"],
    )
    resultserver_ip: f.Address | None = Field(
        None,
        description="CAPE's result server as this host sees it, if not that of cuckoo.conf.",
        examples=["10.99.0.1"],
    )
    resultserver_port: f.Port | None = Field(
        None, description="TCP port of that result server.", examples=["2042"]
    )

    @property
    def ways_on(self) -> Ways:
        """How it is switched on."""
        return self.power if self.power_on is None else self.power_on

    @property
    def ways_off(self) -> Ways:
        """How it is switched off."""
        return self.power if self.power_off is None else self.power_off

    @property
    def power_urls(self) -> tuple[PowerUrl, ...]:
        """Every power URL, once."""
        every = (*self.power, *(self.power_on or ()), *(self.power_off or ()))
        return tuple(dict.fromkeys(url for way in every for url in way))

    @property
    def password_variable(self) -> str:
        """Name of the environment variable that may hold the password for power."""
        return "ZFSISCSI_POWER_PASSWORD_" + re.sub("[^A-Z0-9]", "_", self.label.upper())

    def read_power_password(
        self, environ: Mapping[str, str] = os.environ, url: PowerUrl | None = None
    ) -> SecretStr | None:
        """Read the password for power; None if there is none. The environment goes first.

        Args:
            environ: of the process.
            url: the device; its own password_file goes before all.

        Raises:
            ConfigError: the file is missing, open to others or not one line.
        """
        if url is not None and url.password_file:
            return read_secret_file(url.password_file, where=f"[{self.section}] {url.driver}")
        given = environ.get(self.password_variable)
        if given:
            return SecretStr(given)
        if self.power_password_file is None:
            return None
        where = f"[{self.section}] power_password_file"
        return read_secret_file(self.power_password_file, where=where)
