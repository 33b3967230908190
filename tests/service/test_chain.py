"""Whether a boot is its host's alone, over every combination of what may be seen."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuckoo_zfsiscsi.service.chain import (
    FASTER,
    LAG,
    LONGEST_FLOOR,
    MOST_SESSIONS,
    SURE,
    Login,
    Trace,
    Verdict,
    floor,
    judge,
)

HOST, OTHER = "10.99.0.12", "10.99.0.11"
FIRMWARE, SYSTEM = Login(7, HOST, after_script=True), Login(9, HOST, after_script=True)
BOOT = Trace(
    HOST, now=25.0, asked=(5.0,), logins=(FIRMWARE, SYSTEM), floor=0.5, sees_dhcp=True, dhcp=4.0
)
"""As it should be."""
THIRD = Login(8, HOST, after_script=True)


def test_a_boot_as_it_should_be() -> None:
    assert judge(BOOT) == (Verdict.WHOLE, "")


@pytest.mark.parametrize(
    "change",
    [
        {"logins": (SYSTEM,)},
        {"logins": (replace(FIRMWARE, address=""), SYSTEM)},
        {"sees_dhcp": False, "dhcp": None},
        {"dhcp": 5.0 + LAG},
        {"boot_file": 3.0},
        {"boot_file": 5.0 + LAG},
        {"asked": (0.5,), "dhcp": 0.4},
        {"reboots": 1, "asked": (5.0, 60.0), "logins": (FIRMWARE, SYSTEM, THIRD)},
    ],
)
def test_what_is_no_fault(change: dict[str, object]) -> None:
    """A look that missed a session, an end that is not known, a server's word that comes late."""
    assert judge(replace(BOOT, **change)) == (Verdict.WHOLE, "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"asked": (5.0, 5.1)}, "its boot script was asked for a second time"),
        (
            {"asked": (0.36,)},
            "its boot script was asked for 0.36 s after power-on, and its firmware needs 0.50 s at "
            "least",
        ),
        ({"dhcp": None}, "its boot script was asked for, but no address"),
        ({"dhcp": 5.1 + LAG}, "its boot script was asked for, but no address"),
        (
            {"boot_file": 5.1 + LAG},
            "a boot file was loaded in its name after its boot script had been given",
        ),
        (
            {"logins": (FIRMWARE, replace(SYSTEM, address=OTHER))},
            f"someone logged in to its disk from {OTHER}",
        ),
        (
            {"logins": (replace(FIRMWARE, after_script=False),)},
            "someone logged in to its disk before its boot script was given",
        ),
        ({"asked": (), "logins": (replace(FIRMWARE, after_script=False),)}, "before its boot"),
        (
            {"logins": (FIRMWARE, SYSTEM, THIRD)},
            "its disk had 3 sessions, and one boot has 2",
        ),
        ({"reboots": 1, "asked": (5.0, 6.0, 7.0)}, "its boot script was asked for 3 times"),
    ],
)
def test_what_makes_it_void(change: dict[str, object], why: str) -> None:
    verdict, said = judge(replace(BOOT, **change))  # type: ignore[arg-type]
    assert verdict is Verdict.VOID
    assert why in said


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"asked": (), "logins": ()}, "its boot script was not asked for"),
        ({"logins": ()}, "nobody has logged in to its disk"),
        ({"dhcp": None, "now": 5.0 + LAG}, "it was not seen to get its address"),
    ],
)
def test_what_is_missing_yet(change: dict[str, object], why: str) -> None:
    assert judge(replace(BOOT, **change)) == (Verdict.OPEN, why)  # type: ignore[arg-type]


TIMES = (None, 0.2, 4.0, 5.0 + 2 * LAG)
EVERY = [
    Trace(HOST, 25.0, asked, logins, least, sees, dhcp, boot_file)
    for asked, logins, least, sees, dhcp, boot_file in product(
        [(), (0.2,), (5.0,), (0.2, 5.0), (5.0, 6.0)],
        [
            tuple(Login(number, who, after) for number, (who, after) in enumerate(one))
            for count in range(4)
            for one in product(product((HOST, OTHER, ""), (False, True)), repeat=count)
        ],
        (0.0, 0.5),
        (False, True),
        TIMES,
        TIMES,
    )
]


def test_whole_is_one_request_and_one_chain() -> None:
    """Of every trace. Who asked twice, or logged in from elsewhere, is never let go on."""
    seen = {judge(trace)[0] for trace in EVERY}
    assert seen == set(Verdict)
    for trace in EVERY:
        verdict, why = judge(trace)
        assert bool(why) == (verdict is not Verdict.WHOLE)
        if verdict is Verdict.WHOLE:
            assert len(trace.asked) == 1
            assert trace.asked[0] >= trace.floor
            assert 1 <= len(trace.logins) <= MOST_SESSIONS
            assert all(one.address in ("", HOST) for one in trace.logins)
            assert all(one.after_script for one in trace.logins)
            assert trace.dhcp is not None or not trace.sees_dhcp
        strange = any(one.address == OTHER for one in trace.logins)
        if len(trace.asked) > 1 or strange or len(trace.logins) > MOST_SESSIONS:
            assert verdict is Verdict.VOID


@given(
    st.sampled_from(EVERY),
    st.floats(0, 100),
    st.tuples(st.sampled_from([HOST, OTHER, ""]), st.booleans()),
)
def test_what_is_void_stays_void(trace: Trace, later: float, login: tuple[str, bool]) -> None:
    """Whatever is seen later: another request, another session, time. Only a word may come late."""
    if judge(trace)[0] is not Verdict.VOID:
        return
    new = Login(99, *login)
    for change in (
        {"now": trace.now + later},
        {"asked": (*trace.asked, trace.now + later)} if trace.asked else {},
        {"logins": (*trace.logins, new)},
    ):
        assert judge(replace(trace, **change))[0] is Verdict.VOID


def test_the_floor_is_learnt_and_never_high() -> None:
    assert floor(0.5, []) == 0.5
    assert floor(0.5, (SURE - 1) * [12.0]) == 0.5
    assert floor(0.5, [12.0, *(SURE - 1) * [30.0]]) == 12.0 / FASTER
    assert floor(0.5, SURE * [100.0]) == LONGEST_FLOOR
    assert floor(0.5, SURE * [0.8]) == 0.5
    assert floor(0.0, SURE * [100.0]) == 0.0, "switched off"
