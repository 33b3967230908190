"""The model of one host's section. Descriptions and examples make the manual."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from cuckoo_zfsiscsi.config import fields as f
from cuckoo_zfsiscsi.config.base import Section
from cuckoo_zfsiscsi.config.secrets import read_secret_file


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
