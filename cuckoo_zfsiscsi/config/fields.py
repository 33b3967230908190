"""The kinds of values: each a type with the validator that names what is wrong."""

from __future__ import annotations

import re
from configparser import ConfigParser
from ipaddress import IPv4Address, IPv4Interface, IPv6Network
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from cuckoo_zfsiscsi.config import network
from cuckoo_zfsiscsi.config.ways import Ways, parse_ways, write_ways
from cuckoo_zfsiscsi.config.wrong import WrongValueError

_T = TypeVar("_T")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?:@[1-9][0-9]{0,8})?")
_DATASET = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]*(?:/[A-Za-z0-9][A-Za-z0-9_.:-]*)*")  # zfs(8)
_FILE = re.compile(r"[A-Za-z0-9_./+-]+")  # what dnsmasq takes without quotes
_TAG = re.compile(r"[A-Za-z0-9_.-]+")
_TAKEN = ("zfsiscsi", "storage", "netboot", "get", "refresh")  # CAPE's Config: get() and refresh()


def parse_label(text: str) -> str:
    """Check a host's name: it goes into IQNs, file names and DHCP."""
    if not _LABEL.fullmatch(text):
        reason = "a host's name has 1 to 63 of a-z, 0-9 and -, and no - at either end"
        raise WrongValueError(reason, f"rename it, for example {_slug(text)}")
    if text in _TAKEN:
        raise WrongValueError(
            f"the name {text} is taken", f"rename the host, for example pc-{text}"
        )
    return text


def parse_network_name(text: str) -> str:
    """Check a network's name: it goes into the DHCP servers' configuration."""
    if not _LABEL.fullmatch(text):
        reason = "a network's name has 1 to 63 of a-z, 0-9 and -, and no - at either end"
        raise WrongValueError(reason, f"rename it, for example {_slug(text, 'vlan20')}")
    return text


def _slug(text: str, otherwise: str = "pc1") -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-") or otherwise


def _parse_image(text: str) -> str:
    if not _IMAGE.fullmatch(text):
        raise WrongValueError("is not an image: NAME or NAME@VERSION")
    return text


def parse_dataset(text: str) -> str:
    """Return a pool's or dataset's name. Raises WrongValueError."""
    if not _DATASET.fullmatch(text):
        raise WrongValueError("is not a ZFS pool or dataset: POOL or POOL/NAME")
    return text


def _parse_disk_name(text: str) -> str:
    if not text.isascii() or not text.isprintable() or text != text.strip() or "," in text:
        raise WrongValueError("what a disk calls itself is printable ASCII, without a comma")
    return text


def _parse_tag(text: str) -> str:
    if not _TAG.fullmatch(text):
        raise WrongValueError("a tag has letters, digits, _ . - only, with a comma between two")
    return text


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or ".." in path.parts or not str(path).isprintable():
        raise WrongValueError("must be an absolute path: it begins with / and has no ..")
    return path


def _plain(path: Path) -> Path:
    if not _FILE.fullmatch(str(path)):
        raise WrongValueError("a path for dnsmasq has letters, digits and _ . / + - only")
    return path


def _parse_boot_file(text: str) -> str:
    path = Path(text)
    if path.is_absolute() or ".." in path.parts or not path.name or not _FILE.fullmatch(text):
        raise WrongValueError("must be the name of a file inside tftp_root")
    return text


def _parse_bool(value: object) -> object:
    """Take what CAPE's configparser takes, no more (pydantic also knows t and y)."""
    if isinstance(value, str):
        return ConfigParser.BOOLEAN_STATES.get(value.lower(), value + "?")
    return value


def split_list(value: object) -> object:
    """Split at commas."""
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def unlike(values: tuple[_T, ...]) -> tuple[_T, ...]:
    """Refuse an item that is there twice."""
    for value in values:
        if values.count(value) > 1:
            raise WrongValueError(f"{value} is there twice", "remove one of the two")
    return values


def _parse_power(value: object) -> object:
    return parse_ways(value) if isinstance(value, str) else value


def _off(value: object) -> object:
    return None if value == "off" else value


def split_or_off(value: object) -> object:
    """Split at commas; off is none at all."""
    return () if value == "off" else split_list(value)


Label = Annotated[str, AfterValidator(parse_label)]
Labels = Annotated[
    tuple[Label, ...], BeforeValidator(split_list), AfterValidator(unlike), Field(min_length=1)
]
NetworkName = Annotated[str, AfterValidator(parse_network_name)]
Mac = Annotated[str, AfterValidator(network.parse_mac)]
Iqn = Annotated[str, AfterValidator(network.parse_iqn)]
ImageRef = Annotated[str, AfterValidator(_parse_image)]
Dataset = Annotated[str, AfterValidator(parse_dataset)]
DiskName = Annotated[str, AfterValidator(_parse_disk_name)]
Interface = Annotated[str, AfterValidator(network.parse_interface)]
Tags = Annotated[
    tuple[Annotated[str, AfterValidator(_parse_tag)], ...],
    BeforeValidator(split_list),
    AfterValidator(unlike),
]
Service = Annotated[str, AfterValidator(network.parse_service)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
PlainPath = Annotated[Path, AfterValidator(_absolute), AfterValidator(_plain)]
BootFile = Annotated[str, AfterValidator(_parse_boot_file)]
Switch = Annotated[bool, BeforeValidator(_parse_bool)]
Power = Annotated[Ways, BeforeValidator(_parse_power), PlainSerializer(write_ways)]
Address = Annotated[IPv4Address, AfterValidator(network.check_address)]
OwnAddress = Annotated[IPv4Interface, AfterValidator(network.check_own_address)]
UlaPrefix = Annotated[IPv6Network | None, BeforeValidator(_off), AfterValidator(network.check_ula)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
