from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cuckoo_zfsiscsi.text import printable, shown


@given(st.text())
def test_a_terminal_has_nothing_to_obey(text: str) -> None:
    clean = printable(text)
    assert clean.isprintable()
    clean.encode()
    assert printable(clean) == clean
    if text.isprintable():
        assert clean == text


def test_what_is_written_out() -> None:
    assert printable("\x1b[2J\n\t\x7f\x9b\u202e\u2028\ud800") == (
        r"\x1b[2J\n\t\x7f\x9b\u202e\u2028\ud800"
    )
    assert printable("ein Wörtchen, 漢字, ▶") == "ein Wörtchen, 漢字, ▶"


@given(st.text(), st.integers(4, 20))
def test_not_too_long(text: str, longest: int) -> None:
    clean = shown(text, longest)
    assert len(clean) <= longest
    if len(printable(text)) <= longest:
        assert clean == printable(text)
    else:
        assert clean == f"{printable(text)[: longest - 3]}..."
