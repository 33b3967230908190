from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cuckoo_zfsiscsi.isolation import Attempt, judge

HOSTS = ["pc1", "pc2", "pc3"]
PAIRS = [(one, two) for one in HOSTS for two in HOSTS if one != two]
DAY = 86_400.0


def tried(*pairs: tuple[str, str], reached: str = "") -> list[Attempt]:
    return [Attempt(one, two, reached, DAY) for one, two in pairs]


def test_alone() -> None:
    assert judge("vlan20", ["pc1"], []).state == "isolated"
    assert judge("vlan20", [], []).state == "isolated"


def test_nobody_has_tried() -> None:
    found = judge("netboot", HOSTS, tried(("pc1", "pc9"), ("pc9", "pc1"), reached="ARP"))
    assert (found.state, found.why) == ("not known", "nobody has tried; not from pc1 to pc2")


def test_every_pair_was_tried() -> None:
    assert judge("netboot", HOSTS, tried(*PAIRS)).state == "isolated"
    new = [*HOSTS, "pc4"]
    assert judge("netboot", new, tried(*PAIRS)).why == "6 of 12 tries made; not from pc1 to pc4"


def test_one_reach_is_enough() -> None:
    found = judge("netboot", HOSTS, [*tried(*PAIRS[1:]), *tried(PAIRS[0], reached="TCP 8000")])
    assert (found.state, found.why) == ("not isolated", "pc1 reached pc2 by TCP 8000")


@given(st.dictionaries(st.sampled_from(PAIRS), st.sampled_from(["", "ARP", "TCP 135"])))
def test_isolated_only_if_all_were_tried_and_none_reached(seen: dict[tuple[str, str], str]) -> None:
    attempts = [Attempt(*pair, how, DAY) for pair, how in seen.items()]
    state = judge("netboot", HOSTS, attempts).state
    assert (state == "isolated") == (len(seen) == len(PAIRS) and not any(seen.values()))
    assert (state == "not isolated") == any(seen.values())
