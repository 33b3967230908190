"""Gateway and name servers: who says so, and what is refused."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config.default_route import DefaultRoute, choose
from tests.config.sample import edit, mistakes, read

A, B, C = (IPv4Address(f"10.99.0.{n}") for n in (1, 2, 3))
NETWORK = "ra_prefix = fd99:0:0:1::/64\n"
PC1 = "mac = 00:11:22:33:44:01\n"
NAME = "[zfsiscsi]\n"
Told = tuple[IPv4Address | str | None, tuple[IPv4Address, ...] | None]


@pytest.mark.parametrize(
    ("own", "network", "here", "gateway", "dns"),
    [
        ((None, None), (None, None), None, None, ()),
        ((None, None), (None, None), A, A, (A,)),
        ((None, None), (B, None), A, B, (B,)),
        ((C, None), (B, None), A, C, (C,)),
        (("off", None), (B, None), A, None, ()),
        ((None, None), ("off", None), A, None, ()),
        ((None, None), (None, (B,)), A, A, (B,)),
        ((None, (C, B)), (None, (A,)), A, A, (C, B)),
        ((None, ()), (None, (B,)), A, A, ()),
        (("off", None), (None, (B,)), A, None, (B,)),
    ],
)
def test_choose(own: Told, network: Told, here: IPv4Address | None, gateway: IPv4Address | None,
                dns: tuple[IPv4Address, ...]) -> None:  # fmt: skip
    assert choose(own, network, here) == DefaultRoute(gateway, dns)


@pytest.mark.parametrize(
    ("service", "gateway"),
    [
        ("http://127.0.0.1:8470", A),
        ("http://localhost:8470", A),
        ("http://[::1]:8470", A),
        ("unix:///run/zfsiscsi/api.sock", A),
        ("http://10.98.0.1:8470", None),
        ("http://storage.lan:8470", None),
    ],
)
def test_cape_is_the_gateway_where_it_is_on_this_server(
    tmp_path: Path, service: str, gateway: IPv4Address | None
) -> None:
    config = read(tmp_path, edit((NAME, f"{NAME}service = {service}\n")))
    assert config.default_route(config.hosts[0]).gateway == gateway


def test_keys(tmp_path: Path) -> None:
    text = edit(
        (NETWORK, NETWORK + "gateway = 10.99.0.2\ndns = 10.99.0.3, 9.9.9.9\n"
                            "allow = 10.1.2.3, 10.50.0.0/24\n"),
        (PC1, PC1 + "gateway = off\ndns = off\n"),
    )  # fmt: skip
    config = read(tmp_path, text)
    pc1, pc2 = config.hosts
    assert config.default_route(pc1) == DefaultRoute(None, ())
    assert config.default_route(pc2) == DefaultRoute(B, (C, IPv4Address("9.9.9.9")))
    assert config.networks[0].allow == (IPv4Network("10.1.2.3"), IPv4Network("10.50.0.0/24"))


@pytest.mark.parametrize(
    ("section", "lines", "key", "reason", "fix"),
    [
        (NETWORK, "gateway = 10.98.0.1", "gateway", "is outside 10.99.0.0/24", "in 10.99.0.0/24"),
        (NETWORK, "gateway = 10.99.0.255", "gateway", "is the first or last", "another address"),
        (NETWORK, "gateway = 10.99.0.12", "gateway", "is the address of pc2", "CAPE's address"),
        (NETWORK, "gateway = router.lan", "gateway", "is neither an IPv4 address nor off", ""),
        (NETWORK, "dns = dns.example", "dns", "is not an IPv4 address", ""),
        (NETWORK, "dns = 10.99.0.1,10.99.0.1", "dns", "is there twice", "remove one"),
        (NETWORK, "gateway = off\ndns = 9.9.9.9", "dns", "can't be reached without", "; or off"),
        (NETWORK, "allow = 10.0.0.1/8", "allow", "is not an IPv4 network", ""),
        (PC1, "gateway = 10.98.0.1", "gateway", "is outside 10.99.0.0/24", "in 10.99.0.0/24"),
        (PC1, "gateway = 10.99.0.11", "gateway", "is the address of pc1", "CAPE's address"),
        (PC1, "dns = name", "dns", "is not an IPv4 address", ""),
        (PC1, "network_via = agent\nready = rpc", "network_via", "needs an agent", "ready = rpc,"),
        (PC1, "network_via = telepathy", "network_via", "must be 'dhcp' or 'agent'", ""),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, section: str, lines: str, key: str, reason: str,
                  fix: str) -> None:  # fmt: skip
    (found,) = mistakes(tmp_path, edit((section, f"{section}{lines}\n")))
    assert found.key == key
    assert reason in found.reason
    assert fix in found.fix
