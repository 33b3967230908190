from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from cuckoo_zfsiscsi.compare import rest as module
from cuckoo_zfsiscsi.compare.rest import LostError, RefusedError, Rest
from cuckoo_zfsiscsi.errors import CompareError, ConfigError
from tests.clocks import VirtualClock
from tests.compare.fake_cape import FakeCape

SERVER = "http://cape.test:8000"
LIST = "machines/list/"


class Clock(VirtualClock):
    """One that notes what is slept."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        super().sleep(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def client(cape: FakeCape, clock: Clock, rate: int = 6000, token: Path | None = None) -> Rest:
    return Rest(SERVER, token, rate, session=cape.session, clock=clock)


def test_rate_is_kept(cape: FakeCape, clock: Clock) -> None:
    rest, begin = client(cape, clock, rate=5), clock.monotonic()
    for _ in range(12):
        rest.machines()
    assert clock.monotonic() - begin == 2 * 60
    assert len(cape.asked) == 12


@pytest.mark.parametrize(("header", "seconds"), [("7", 7), ("", 60), ("soon", 60), ("0", 1)])
def test_too_many_requests(header: str, seconds: float, cape: FakeCape, clock: Clock) -> None:
    cape.special[LIST] = [(429, {"Retry-After": header}, {"detail": "throttled"})] * 2
    assert len(client(cape, clock).machines()) == 3
    assert clock.slept == [seconds, seconds]


@pytest.mark.parametrize(
    "trouble", [requests.ConnectionError(), requests.ReadTimeout(), (502, {}, b"<html>")]
)
def test_what_only_reads_is_asked_again(trouble: Any, cape: FakeCape, clock: Clock) -> None:
    cape.special[LIST] = [trouble] * 3
    assert len(client(cape, clock).machines()) == 3
    assert clock.slept == [1, 2, 4]
    cape.special[LIST] = [trouble] * 99
    with pytest.raises(LostError, match=r"cape\.test"):
        client(cape, clock).machines()


def test_a_submission_is_not_asked_again(cape: FakeCape, clock: Clock, tmp_path: Path) -> None:
    cape.special["tasks/create/file/"] = [requests.ReadTimeout()]
    (tmp_path / "x").write_text("x")
    with pytest.raises(LostError):
        client(cape, clock).submit(tmp_path / "x", {})
    assert len(cape.asked) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"error": True, "error_value": "is Disabled"}, "made no task: is Disabled"),
        ({"data": {"task_ids": []}, "errors": ["bad"]}, "made no task: ['bad']"),
        ({"data": {"task_ids": ["7"]}}, "made no task"),
        ({"data": {"task_ids": [7, 8]}}, "made 2 tasks of x"),
    ],
)
def test_refused(answer: Any, said: str, cape: FakeCape, clock: Clock, tmp_path: Path) -> None:
    cape.special["tasks/create/file/"] = [answer]
    (tmp_path / "x").write_text("x")
    with pytest.raises(RefusedError) as failed:
        client(cape, clock).submit(tmp_path / "x", {})
    assert said in failed.value.what


def test_token(cape: FakeCape, clock: Clock, tmp_path: Path) -> None:
    seen: list[Any] = []
    answer = cape.answer

    def listen(request: requests.PreparedRequest, path: str) -> Any:
        seen.append(request.headers.get("Authorization"))
        return answer(request, path)

    cape.answer = listen  # type: ignore[method-assign]
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("s3cret\n")
    client(cape, clock, token=token).machines()
    assert seen == ["Token s3cret"]
    token.chmod(0o644)
    with pytest.raises(ConfigError, match="open to others"):
        client(cape, clock, token=token).machines()
    cape.special[LIST] = [(403, {}, {})]
    with pytest.raises(CompareError, match="token_file = FILE"):
        client(cape, clock).machines()


@pytest.mark.parametrize("answer", [(200, {}, b"<html>"), (200, {}, []), (302, {}, b"")])
def test_not_cape(answer: Any, cape: FakeCape, clock: Clock) -> None:
    cape.special[LIST] = [answer]
    with pytest.raises(CompareError, match="not as CAPE does"):
        client(cape, clock).machines()


def test_too_large(cape: FakeCape, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 10)
    with pytest.raises(RefusedError, match="sent more than"):
        client(cape, clock).machines()


def test_no_report(cape: FakeCape, clock: Clock) -> None:
    with pytest.raises(RefusedError, match="no report of task 9"):
        client(cape, clock).report(9)
