from __future__ import annotations

from pathlib import Path

import pytest

from cuckoo_zfsiscsi.config.templates import fill, parse_numbers
from tests.config.sample import edit, mistakes, read

TEMPLATE = """\
[network:pc{n}]
n = 1-2,7
interface = vlan{n+100}
address = 10.99.{n}.1/24
"""
ALONE = edit(
    ("[pc1]", f"{TEMPLATE}[pc1]"), ("ip = 10.99.0.11", "ip = 10.99.1.2"),
    ("ip = 10.99.0.12", "ip = 10.99.2.2"),
)  # fmt: skip
"""The sample with a network for each host, and one more."""


def test_each_host_is_in_the_network_of_its_name(tmp_path: Path) -> None:
    config = read(tmp_path, ALONE)
    assert [net.name for net in config.networks] == ["netboot", "pc1", "pc2", "pc7"]
    for number in (1, 2):
        host = config.host(f"pc{number}")
        network = config.network_of(host)
        assert (network.name, network.interface) == (host.label, f"vlan{100 + number}")
        assert str(network.address) == f"10.99.{number}.1/24"
        assert network.portal_ip == network.address.ip


def test_a_host_may_name_another_network(tmp_path: Path) -> None:
    text = ALONE.replace("ip = 10.99.1.2", "ip = 10.99.7.2\nnetwork = pc7")
    assert read(tmp_path, text).host("pc1").network == "pc7"


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("10.99.{n}.1/24", "10.99.7.1/24"),
        ("10.99.0.{4*n+1}/30", "10.99.0.29/30"),
        ("vlan{n+100}, {n-1}", "vlan107, 6"),
        ("{m} {n*4} {n +1}", "{m} {n*4} {n +1}"),
    ],
)
def test_fill(text: str, filled: str) -> None:
    assert fill(text, 7) == filled


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1-3,2,9", [1, 2, 3, 9]), (" 4 , 5 ", [4, 5])]
    + [(bad, []) for bad in ("", "3-1", "1-", "a", "1;2", "0-1000", "-1")],
)
def test_numbers(text: str, numbers: list[int]) -> None:
    assert parse_numbers(text) == numbers


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        (("n = 1-2,7\n", ""), "n", "missing"),
        (("n = 1-2,7\n", "n = 7-1\n"), "n", "no list of at most 1000"),
        (("10.99.{n}.1", "10.99.{m}.1"), "address", "has { or } that is no number"),
        (("[network:pc{n}]", "[network:pc{m}]"), "", "the name's braces are no number"),
        (("[network:pc{n}]", "[network:pc2]\ninterface = x\n[network:pc{n}]"), "n", "there"),
    ],
    ids=["no numbers", "bad numbers", "brace", "name", "there already"],
)
def test_mistakes(tmp_path: Path, change: tuple[str, str], key: str, reason: str) -> None:
    found = mistakes(tmp_path, edit(change, text=ALONE))
    one = next(one for one in found if reason in one.reason)
    assert (one.section[:9], one.key) == ("network:p", key)
    assert one.fix
