"""The models of zfsiscsi.conf: one per section. Descriptions and examples make the manual."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic.fields import FieldInfo

from cuckoo_zfsiscsi.config import fields as f
from cuckoo_zfsiscsi.config.mistakes import nearest
from cuckoo_zfsiscsi.config.secrets import read_secret_file
from cuckoo_zfsiscsi.errors import UnknownHostError


class Section(BaseModel):
    """One section; a field is a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    capes_own: ClassVar[frozenset[str]] = frozenset()
    """Keys that CAPE reads here and we don't."""
    not_keys: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """Return the keys of this section in the file."""
        return {k: v for k, v in cls.model_fields.items() if k not in cls.not_keys}


class General(Section):
    """[zfsiscsi]: what CAPE reads, and how the service is reached."""

    capes_own = frozenset({"dsn", "total_machines_limit", "dynamic_machines_limit"})

    machines: f.Labels = Field(
        description="The hosts, with a comma and no space between two. Each has its own section.",
        examples=["pc1,pc2"],
    )
    interface: f.Interface = Field(
        description="Network interface on which CAPE records the hosts' traffic.",
        examples=["br-lab"],
    )
    service: f.Service = Field(
        "http://127.0.0.1:8470",
        description="Where the service listens and CAPE finds it: http://ADDRESS:PORT, or "
        "unix:///PATH when both are on one machine.",
        examples=["http://127.0.0.1:8470"],
    )
    token_file: f.AbsolutePath | None = Field(
        None,
        description="File with the token that opens the service, mode 600, owned by the user CAPE "
        "runs as. Must be set unless service is a unix socket.",
        examples=["/etc/zfsiscsi/token"],
    )
    run_dir: f.AbsolutePath = Field(
        Path("/run/zfsiscsi"),
        description="Folder of what lives as long as the service: pid files, sockets, generated "
        "configuration of dnsmasq and tgt.",
        examples=["/run/zfsiscsi"],
    )
    start_timeout: f.Seconds = Field(
        300.0,
        description="Seconds that CAPE waits for a host to become ready, reset included.",
        examples=["300"],
    )
    stop_timeout: f.Seconds = Field(
        60.0, description="Seconds that CAPE waits for a host's power to be off.", examples=["60"]
    )

    def read_token(self) -> SecretStr | None:
        """Read the token; None if there is no token_file.

        Raises:
            ConfigError: the file is missing, open to others or not one line.
        """
        if self.token_file is None:
            return None
        return read_secret_file(self.token_file, where="[zfsiscsi] token_file")


class Storage(Section):
    """[storage]: images, disks and how they are exported."""

    store: Literal["file"] = Field(
        "file", description="How images and disks are kept.", examples=["file"]
    )
    path: f.AbsolutePath = Field(
        Path("/var/lib/zfsiscsi"),
        description="Folder of the images and disks, best on a file system with reflinks "
        "(XFS, btrfs).",
        examples=["/var/lib/zfsiscsi"],
    )
    target: Literal["tgt"] = Field(
        "tgt", description="The iSCSI target software.", examples=["tgt"]
    )
    portal: f.Address = Field(
        description="IPv4 address at which the hosts reach the iSCSI target: on their own network, "
        "as they get no gateway.",
        examples=["10.99.0.1"],
    )
    portal_port: f.Port = Field(
        3260, description="TCP port of the iSCSI target.", examples=["3260"]
    )
    iqn: f.Iqn = Field(
        description="iSCSI name that all others begin with: iqn.YEAR-MONTH.REVERSED-DOMAIN.",
        examples=["iqn.2026-01.org.example"],
    )


class Netboot(Section):
    """[netboot]: the network that the hosts boot from."""

    dhcp: Literal["dnsmasq"] = Field(
        "dnsmasq", description="The DHCP and TFTP server software.", examples=["dnsmasq"]
    )
    interface: f.Interface = Field(
        description="The server's network interface towards the hosts.", examples=["br-lab"]
    )
    address: f.OwnAddress = Field(
        description="The server's own address on that interface, with the network's size.",
        examples=["10.99.0.1/24"],
    )
    boot_port: f.Port = Field(
        8471, description="TCP port from which the hosts load their boot scripts.",
        examples=["8471"],
    )  # fmt: skip
    ra_prefix: f.UlaPrefix = Field(
        None,
        description="Private IPv6 /64 to advertise, or off. Without it iPXE waits 13 s at every "
        "boot. The interface needs an address in it.",
        examples=["fd99:0:0:1::/64"],
    )
    tftp_root: f.AbsolutePath = Field(
        Path("/usr/lib/ipxe"),
        description="Folder of the iPXE boot files.",
        examples=["/usr/lib/ipxe"],
    )


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
        description="How power is switched: DRIVER://USER@ADDRESS[:PORT][?OPTION=VALUE]. Never "
        "with a password.",
        examples=["ipmi://admin@10.98.0.11"],
    )
    power_password_file: f.AbsolutePath | None = Field(
        None,
        description="File with the password for power, mode 600. The service's environment "
        "variable ZFSISCSI_POWER_PASSWORD_LABEL (PC_1 for pc-1) goes before it.",
        examples=["/etc/zfsiscsi/pc1.password"],
    )
    prewarm: f.Switch = Field(
        False,
        description="Boot the clean host while it is idle, so that a run begins at once.",
        examples=["no"],
    )
    reset_on: Literal["start"] = Field(
        "start",
        description="When a clean disk is put in place: start, before each run. A reboot within "
        "the run keeps the disk.",
        examples=["start"],
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
    def password_variable(self) -> str:
        """Name of the environment variable that may hold the password for power."""
        return "ZFSISCSI_POWER_PASSWORD_" + re.sub("[^A-Z0-9]", "_", self.label.upper())

    def read_power_password(self, environ: Mapping[str, str] = os.environ) -> SecretStr | None:
        """Read the password for power; None if there is none. The environment goes first.

        Raises:
            ConfigError: the file is missing, open to others or not one line.
        """
        given = environ.get(self.password_variable)
        if given:
            return SecretStr(given)
        if self.power_password_file is None:
            return None
        where = f"[{self.section}] power_password_file"
        return read_secret_file(self.power_password_file, where=where)


class Config(BaseModel):
    """The whole file, proven to fit together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    zfsiscsi: General
    storage: Storage
    netboot: Netboot
    hosts: tuple[HostConfig, ...]

    def host(self, label: str) -> HostConfig:
        """Return one host.

        Raises:
            UnknownHostError: no host has this label.
        """
        for host in self.hosts:
            if host.label == label:
                return host
        labels = [host.label for host in self.hosts]
        best = nearest(label, labels)
        fix = f"did you mean {best}?" if best else f"use one of: {', '.join(labels)}"
        raise UnknownHostError(f"there is no host {label}", fix=fix)
