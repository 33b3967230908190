"""Where a running system sends what is not for its own network, and whom it asks for names."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from cuckoo_zfsiscsi.config.fields import Address, split_list, split_or_off, unlike
from cuckoo_zfsiscsi.config.network import check_address
from cuckoo_zfsiscsi.config.wrong import WrongValueError

OFF = "off"


@dataclass(frozen=True)
class DefaultRoute:
    """What a system is told once it runs.

    Its firmware and iPXE never are: Windows would send its disk's traffic to a gateway that stands
    in the iBFT.
    """

    gateway: IPv4Address | None
    dns: tuple[IPv4Address, ...]
    """Name servers."""


def _parse_gateway(value: object) -> object:
    if value == OFF or not isinstance(value, str):
        return value
    try:
        return check_address(IPv4Address(value))
    except AddressValueError:
        raise WrongValueError("is neither an IPv4 address nor off") from None


Gateway = Annotated[IPv4Address | Literal["off"], BeforeValidator(_parse_gateway)]
Dns = Annotated[tuple[Address, ...], BeforeValidator(split_or_off), AfterValidator(unlike)]
Allow = Annotated[tuple[IPv4Network, ...], BeforeValidator(split_list), AfterValidator(unlike)]


def gateway_field(default: str) -> Any:  # noqa: ANN401 - as pydantic's Field
    """Return the key gateway, not set.

    Args:
        default: what holds then, for the manual.
    """
    return Field(
        None,
        description="Gateway that the running system gets, so that CAPE's routes work: CAPE's "
        f"address in the hosts' network, or off. {default} See docs/routes.rst.",
        examples=["10.99.0.1"],
    )


def dns_field(default: str) -> Any:  # noqa: ANN401 - as pydantic's Field
    """Return the key dns, not set.

    Args:
        default: what holds then, for the manual.
    """
    return Field(
        None,
        description=f"Name servers that the running system gets, with commas, or off. {default}",
        examples=["10.99.0.1"],
    )


def allow_field() -> Any:  # noqa: ANN401 - as pydantic's Field
    """Return the key allow."""
    return Field(
        (),
        description="Private addresses and networks that these hosts may reach by the gateway, "
        "with commas, in runs whose route lets them out at all. No other private address is "
        "reached, whatever the route.",
        examples=["10.1.2.3"],
    )


def choose(
    own: tuple[IPv4Address | str | None, tuple[IPv4Address, ...] | None],
    network: tuple[IPv4Address | str | None, tuple[IPv4Address, ...] | None],
    here: IPv4Address | None,
) -> DefaultRoute:
    """Return what a host's system is told.

    Args:
        own: gateway and dns of the host's section; None: not set.
        network: those of its network's.
        here: this server's address in that network if CAPE is on this server, too.
    """
    gateways = (own[0], network[0], here)
    found = next((one for one in gateways if one is not None), None)
    gateway = found if isinstance(found, IPv4Address) else None
    names = next((one for one in (own[1], network[1]) if one is not None), None)
    if names is None:
        names = (gateway,) if gateway else ()
    return DefaultRoute(gateway, names)
