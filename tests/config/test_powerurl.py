from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuckoo_zfsiscsi.config import PowerUrl, power_schemes
from cuckoo_zfsiscsi.config.wrong import WrongValueError
from tests.config.sample import SECRET

words = st.text(min_size=1, max_size=12)
names = st.text(alphabet="abcdefghijkl", min_size=1, max_size=4)


def test_schemes_are_the_drivers() -> None:
    assert "ipmi" in power_schemes()
    assert not {"connect", "child", "limit", "proved"} & set(power_schemes())


def test_parse() -> None:
    url = PowerUrl.parse("ipmi://admin@10.98.0.11:623?cipher=3&level=operator")
    assert (url.scheme, url.user, url.host, url.port) == ("ipmi", "admin", "10.98.0.11", 623)
    assert url.options == {"cipher": "3", "level": "operator"}
    assert str(url) == "ipmi://admin@10.98.0.11:623?cipher=3&level=operator"
    with pytest.raises(TypeError):
        url.options["cipher"] = "0"  # type: ignore[index]


def test_least() -> None:
    url = PowerUrl.parse("ipmi://bmc-1.lab/")
    assert (url.user, url.port, dict(url.options)) == (None, None, {})
    assert str(url) == "ipmi://bmc-1.lab"


def test_scheme_with_a_transport() -> None:
    assert PowerUrl.parse("ipmi+x://h").scheme == "ipmi+x"


def test_without_an_address() -> None:
    bare = PowerUrl.parse("wol")
    assert (bare.scheme, bare.host, str(bare)) == ("wol", "", "wol")
    program = PowerUrl.parse("command:///usr/local/bin/relay?args=--board+2")
    assert (program.host, program.path) == ("", "/usr/local/bin/relay")
    assert program.options == {"args": "--board 2"}
    assert PowerUrl.parse(str(program)) == program
    assert str(PowerUrl.parse("wol:?raw=no")) == "wol://?raw=no"


def test_password_file_of_one_device() -> None:
    url = PowerUrl.parse("ipmi://a@h?password_file=/etc/zfsiscsi/pdu.password")
    assert str(url.password_file) == "/etc/zfsiscsi/pdu.password"
    assert PowerUrl.parse("ipmi://a@h").password_file is None


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("ipmi://h", "ipmi://a@H:623", True),
        ("ipmi://h:1", "ipmi://h:2", False),
        ("pdu+x://h?outlet=1", "pdu+x://h?outlet=2", False),
        ("redfish://h?system=1", "redfish://h?system=2", False),
        ("wol", "wol", False),
        ("wol://10.99.0.255", "wol://10.99.0.255", False),
        ("wol://h?mac=00:11:22:33:44:55", "wol://h?mac=00:11:22:33:44:55", True),
        ("command:///x?args=1", "command:///x?args=1", True),
        ("command:///x?args=1", "command:///x?args=2", False),
    ],
)
def test_same_outlet(one: str, two: str, same: bool) -> None:
    assert PowerUrl.parse(one).same_outlet(PowerUrl.parse(two)) is same


@given(
    st.none() | words,
    st.sampled_from(["10.0.0.1", "bmc-1.lab", "fd99::1"]),
    st.none() | st.integers(1, 65535),
    st.dictionaries(names, words, max_size=3),
)
def test_round_trip(user: str | None, host: str, port: int | None, options: dict[str, str]) -> None:
    url = PowerUrl("ipmi", host, user, port, options)
    again = PowerUrl.parse(str(url))
    assert again == url
    assert hash(again) == hash(url)


@pytest.mark.parametrize(
    "text",
    [
        "", "ipmi", "ipmi:", "ipmi://", "//h", "ipmi://h:x", "ipmi://h:0", "ipmi://[h", "ipmi://h/1",
        "ipmi://h#1", "ipmi:///p", "wol://h/1", "command:///a b", "command:///../x?", "wol:", "wol://",
        "ipmi?a=1", "command:/x;y",
        "ipmi://-h", "ipmi://a b", "ipmi://h?a", "ipmi://h?a=1&a=2", "ipmi://@", "zzz://h",
    ],
)  # fmt: skip
def test_no_power_url(text: str) -> None:
    with pytest.raises(WrongValueError) as caught:
        PowerUrl.parse(text)
    assert caught.value.reason
    assert caught.value.fix


@pytest.mark.parametrize(
    "text",
    [
        f"ipmi://admin:{SECRET}@h", f"ipmi://:{SECRET}@h", "ipmi://admin:@h",
        f"ipmi://h?secret={SECRET}", f"ipmi://h?pass={SECRET}", f"zzz://admin:{SECRET}@h",
    ],
)  # fmt: skip
def test_secret_in_the_url(text: str) -> None:
    with pytest.raises(WrongValueError, match="clear text") as caught:
        PowerUrl.parse(text)
    assert SECRET not in caught.value.reason + caught.value.fix
    assert "600" in caught.value.fix
