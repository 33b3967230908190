from __future__ import annotations

import pytest
from starlette.requests import Request

from cuckoo_zfsiscsi.service.dashboard import sessions
from cuckoo_zfsiscsi.service.dashboard.sessions import LIFETIME, Session, Sessions
from tests.clocks import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def request(key: str) -> Request:
    cookie = f"{sessions.COOKIE}={key}".encode()
    return Request({"type": "http", "headers": [(b"cookie", cookie)]})


def begin(made: Sessions) -> Session:
    session = made.log_in("right")
    assert session
    return session


def test_a_session_is_found_by_its_cookie_alone() -> None:
    made = Sessions("right")
    assert made.log_in("wrong") is None
    session, other = begin(made), begin(made)
    assert made.find(request(session.key)) is session
    assert made.find(request(session.form)) is None
    assert made.find(request("")) is None
    assert len({session.key, session.form, other.key, other.form}) == 4
    assert session.key not in repr(session)


def test_it_ends_by_itself(clock: VirtualClock) -> None:
    made = Sessions("right", clock)
    session = begin(made)
    clock.sleep(LIFETIME - 1.0)
    assert made.find(request(session.key)) is session
    clock.sleep(1.0)
    assert made.find(request(session.key)) is None


def test_there_are_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST", 3)
    made = Sessions("right")
    all_of_them = [begin(made) for _ in range(5)]
    found = [made.find(request(one.key)) is one for one in all_of_them]
    assert found == [False, False, True, True, True]
