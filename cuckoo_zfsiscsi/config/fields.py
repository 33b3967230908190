"""The kinds of values: each a type with the validator that names what is wrong."""

from __future__ import annotations

import re
from configparser import ConfigParser
from ipaddress import IPv4Address, IPv4Interface, IPv6Network
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from cuckoo_zfsiscsi.config.powerurl import PowerUrl
from cuckoo_zfsiscsi.config.wrong import WrongValueError

_T = TypeVar("_T")
_MAC = re.compile(
    r"[0-9a-f]{2}(?P<sign>[:-]?)(?:[0-9a-f]{2}(?P=sign)){4}[0-9a-f]{2}"
    r"|[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}"
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# RFC 3720 3.2.6.3.1: year and month, a reversed domain, then anything that RFC 3722 leaves in.
_IQN = re.compile(
    r"iqn\.\d{4}-(?:0[1-9]|1[0-2])(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+(?::[a-z0-9.:-]+)?"
)
_IQN_LONGEST = 223 - len(":" + 63 * "x" + ".g" + 10 * "9")  # RFC 3720 3.2.6.1, less what we append
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:@[1-9][0-9]*)?")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_TAG = re.compile(r"[A-Za-z0-9_.-]+")
_TAKEN = ("zfsiscsi", "storage", "netboot", "get", "refresh")  # CAPE's Config: get() and refresh()


def parse_mac(text: str) -> str:
    """Return a MAC address as aa:bb:cc:dd:ee:ff from any usual notation."""
    if not _MAC.fullmatch(text.lower()):
        raise WrongValueError("is not a MAC address, six pairs of hex digits")
    digits = re.sub("[^0-9a-f]", "", text.lower())
    if digits == 12 * "0":
        raise WrongValueError("all zero is no network card's address")
    if int(digits[:2], 16) & 1:
        raise WrongValueError("is a multicast or broadcast address, no network card has it")
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


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


def _slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-") or "pc1"


def _parse_iqn(text: str) -> str:
    if not _IQN.fullmatch(text):
        reason = "is not an iSCSI name iqn.YEAR-MONTH.REVERSED-DOMAIN[:NAME], in lower case"
        raise WrongValueError(reason)
    if len(text) > _IQN_LONGEST:
        raise WrongValueError(f"is longer than {_IQN_LONGEST} characters")
    return text


def _parse_image(text: str) -> str:
    if not _IMAGE.fullmatch(text):
        raise WrongValueError("is not an image: NAME or NAME@VERSION")
    return text


def _parse_interface(text: str) -> str:
    if not _INTERFACE.fullmatch(text) or text in (".", ".."):
        raise WrongValueError("is not the name of a network interface", "pick one: ip -br link")
    return text


def _parse_tag(text: str) -> str:
    if not _TAG.fullmatch(text):
        raise WrongValueError("a tag has letters, digits, _ . - only, with a comma between two")
    return text


def _parse_service(text: str) -> str:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise WrongValueError("is not a URL") from None
    if url.scheme == "unix":
        if url.netloc or not url.path.startswith("/") or len(url.path) > 107:  # unix(7)
            raise WrongValueError("is not unix:///PATH", "service = unix:///run/zfsiscsi/api.sock")
        return text
    if url.scheme not in ("http", "https") or not url.hostname:
        raise WrongValueError("is neither http://ADDRESS:PORT nor unix:///PATH")
    if "@" in url.netloc:
        fix = "take it out of the URL and put the token's file into token_file"
        raise WrongValueError("has credentials in it", fix)
    if port is None or port == 0 or url.path not in ("", "/") or url.query or url.fragment:
        raise WrongValueError("must be http://ADDRESS:PORT and nothing more")
    return text.rstrip("/")


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or ".." in path.parts:
        raise WrongValueError("must be an absolute path: it begins with / and has no ..")
    return path


def _parse_boot_file(text: str) -> str:
    path = Path(text)
    if path.is_absolute() or ".." in path.parts or not path.name or re.search(r"\s", text):
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
    return PowerUrl.parse(value) if isinstance(value, str) else value


def _usable(address: IPv4Address) -> IPv4Address:
    if address.is_unspecified or address.is_multicast or address == IPv4Address(2**32 - 1):
        raise WrongValueError("is not an address that one machine can have")
    return address


def _on_network(address: IPv4Interface) -> IPv4Interface:
    network = address.network
    if network.prefixlen > 30:
        raise WrongValueError("has no network's size: ADDRESS/BITS with BITS at most 30")
    if address.ip in (network.network_address, network.broadcast_address):
        raise WrongValueError(f"is the first or last address of {network}, no machine can have it")
    return address


def _ula(network: IPv6Network | None) -> IPv6Network | None:
    # RFC 4193; a host takes its address from a /64 alone (RFC 4862 5.5.3 and RFC 4291 2.5.1).
    if network and (network.prefixlen != 64 or not network.subnet_of(IPv6Network("fc00::/7"))):
        raise WrongValueError("is not a private IPv6 /64 network (within fc00::/7)")
    return network


def _off(value: object) -> object:
    return None if value == "off" else value


Label = Annotated[str, AfterValidator(parse_label)]
Labels = Annotated[
    tuple[Label, ...], BeforeValidator(split_list), AfterValidator(unlike), Field(min_length=1)
]
Mac = Annotated[str, AfterValidator(parse_mac)]
Iqn = Annotated[str, AfterValidator(_parse_iqn)]
ImageRef = Annotated[str, AfterValidator(_parse_image)]
Interface = Annotated[str, AfterValidator(_parse_interface)]
Tags = Annotated[
    tuple[Annotated[str, AfterValidator(_parse_tag)], ...],
    BeforeValidator(split_list),
    AfterValidator(unlike),
]
Service = Annotated[str, AfterValidator(_parse_service)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
BootFile = Annotated[str, AfterValidator(_parse_boot_file)]
Switch = Annotated[bool, BeforeValidator(_parse_bool)]
Power = Annotated[PowerUrl, BeforeValidator(_parse_power)]
Address = Annotated[IPv4Address, AfterValidator(_usable)]
OwnAddress = Annotated[IPv4Interface, AfterValidator(_on_network)]
UlaPrefix = Annotated[IPv6Network | None, BeforeValidator(_off), AfterValidator(_ula)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
