from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuckoo_zfsiscsi.config.network import parse_iqn, parse_mac, parse_service
from cuckoo_zfsiscsi.config.wrong import WrongValueError

unicast = st.binary(min_size=6, max_size=6).filter(lambda mac: any(mac) and not mac[0] & 1)


@given(unicast, st.sampled_from([":", "-", "", "."]), st.booleans())
def test_mac_in_any_notation(mac: bytes, sign: str, upper: bool) -> None:
    step = 4 if sign == "." else 2
    digits = mac.hex()
    text = sign.join(digits[i : i + step] for i in range(0, 12, step))
    assert parse_mac(text.upper() if upper else text) == mac.hex(":")
    assert parse_mac(parse_mac(text)) == mac.hex(":")


@given(st.text(alphabet="0123456789abcdefABCDEF:-. ", max_size=20))
def test_mac_is_refused_or_canonical(text: str) -> None:
    try:
        mac = parse_mac(text)
    except WrongValueError:
        return
    assert mac == bytes.fromhex(mac.replace(":", "")).hex(":")
    assert mac.replace(":", "") == "".join(c for c in text.lower() if c not in ":-. ")


@pytest.mark.parametrize(
    "text",
    ["", "001122334g55", "00:11-22:33:44:55", "0:1:2:3:4:5", "001122:334455", "00112233445566"],
)
def test_no_mac(text: str) -> None:
    with pytest.raises(WrongValueError, match="not a MAC"):
        parse_mac(text)


@pytest.mark.parametrize(
    "text", ["iqn.2001-04.com.example", "iqn.2026-12.org.a-b.c:x.y-z:1", "iqn.2026-01.org"]
)
def test_iqn(text: str) -> None:
    assert parse_iqn(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "eui.02004567A425678D", "iqn.26-01.org", "iqn.2026-00.org", "iqn.2026-01",
        "iqn.2026-01.org:", "iqn.2026-01.-a", "iqn.2026-01.org:a_b", "iqn.2026-01.org:a b",
        "iqn.2026-01.org:" + 150 * "x",
    ],
)  # fmt: skip
def test_no_iqn(text: str) -> None:
    with pytest.raises(WrongValueError):
        parse_iqn(text)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("http://127.0.0.1:8470/", "http://127.0.0.1:8470"),
        ("https://cape.lan:443", "https://cape.lan:443"),
        ("http://[fd99::1]:8470", "http://[fd99::1]:8470"),
        ("unix:///run/zfsiscsi/api.sock", "unix:///run/zfsiscsi/api.sock"),
    ],
)
def test_service(text: str, result: str) -> None:
    assert parse_service(text) == result


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1", "http://127.0.0.1:0", "http://127.0.0.1:99999", "http://:8470",
        "http://h:1/api", "http://h:1?x", "http://u:p@h:1", "unix:run/x", "unix://run/x",
        "unix:///" + 110 * "x", "ftp://h:1", "http://[h:1",
    ],
)  # fmt: skip
def test_no_service(text: str) -> None:
    with pytest.raises(WrongValueError) as caught:
        parse_service(text)
    assert "u:p" not in caught.value.reason + caught.value.fix
