from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from cuckoo_zfsiscsi.service import audit, logs
from cuckoo_zfsiscsi.service.logs import PERIOD, SHARES, TRACEBACK, Limit
from tests.clocks import VirtualClock

NOISY, QUIET = "cuckoo_zfsiscsi.netboot.dnsmasq", "cuckoo_zfsiscsi.service.host"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


class Log:
    """The service's log, without its neighbours in the process that runs the tests."""

    def __init__(self, clock: VirtualClock) -> None:
        self.stream = io.StringIO()
        self.limit = Limit(clock)
        self._handler = logging.StreamHandler(self.stream)
        self._handler.setFormatter(logs.Formatter())
        self._handler.addFilter(self.limit)

    def say(self, name: str, level: int, what: str, line: int = 1, failed: bool = False) -> None:
        error = ValueError("a\nb")
        info = (ValueError, error, None) if failed else None
        record = logging.LogRecord(name, level, f"/{name}", line, what, (), info)
        self._handler.handle(record)

    def count(self, what: str) -> int:
        return self.stream.getvalue().count(what)


@pytest.fixture
def log(clock: VirtualClock) -> Iterator[Log]:
    made = Log(clock)
    own = logging.getLogger(logs.__name__)
    own.addHandler(made._handler)
    yield made
    own.removeHandler(made._handler)


def test_few_lines_all_pass(log: Log) -> None:
    for number in range(100):
        log.say(NOISY, logging.INFO, f"line {number}.")
    assert log.count("line ") == 100
    assert log.count("left out") == 0


def test_a_flood_is_cut_and_counted(log: Log, clock: VirtualClock) -> None:
    """85,000 lines in 30 s."""
    for _ in range(30):
        for _ in range(2833):
            log.say(NOISY, logging.INFO, "flood")
        clock.sleep(1.0)
    share = SHARES[logging.NOTSET]
    kept = log.count("flood")
    assert kept == pytest.approx(share.burst + 29 * share.rate, abs=share.rate)
    assert log.count("left out") == 1, "said at once, and then once in a period"
    clock.sleep(PERIOD)
    log.limit.tell()
    assert log.count("left out") == 2
    numbers = [int(line.split(" were")[0].split()[-4]) for line in
               log.stream.getvalue().splitlines() if "left out" in line]  # fmt: skip
    assert kept + sum(numbers) == 30 * 2833
    log.limit.tell()
    assert log.count("left out") == 2


def test_a_level_has_its_own_share(log: Log) -> None:
    for level in (logging.INFO, logging.WARNING):
        for _ in range(10_000):
            log.say(NOISY, level, "flood")
        log.say(QUIET, level + 10, f"beyond {level}")
    assert log.count("beyond") == 2


def test_errors_of_one_place_hide_none_of_another(log: Log) -> None:
    for _ in range(10_000):
        log.say(NOISY, logging.ERROR, "broken by a guest", 7)
    log.say(NOISY, logging.ERROR, "another of the same", 8)
    log.say(QUIET, logging.CRITICAL, "another elsewhere", 7)
    assert log.count("another") == 2
    assert log.count("broken") == SHARES[logging.ERROR].burst


def test_a_traceback_is_many_lines(log: Log) -> None:
    for _ in range(10_000):
        log.say(NOISY, logging.ERROR, "broken by a guest", 7, failed=True)
    assert log.count("broken") == SHARES[logging.ERROR].burst / TRACEBACK
    assert "    | ValueError: a\n    | b\n" in log.stream.getvalue()


def test_the_audit_log_is_never_cut(log: Log) -> None:
    for level in (logging.INFO, logging.ERROR):
        for _ in range(10_000):
            log.say(NOISY, level, "flood")
    for _ in range(5000):
        log.say(audit.NAME, logging.INFO, "who=token")
    assert log.count("who=token") == 5000


def test_all_of_it_is_below_what_the_journal_keeps() -> None:
    """10,000 lines in 30 s (journald.conf(5)), with a few places that guests can break."""
    whole = {level: share.burst + 30 * share.rate for level, share in SHARES.items()}
    assert whole[logging.NOTSET] + whole[logging.WARNING] + 4 * whole[logging.ERROR] < 10_000


def test_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    root, stream = logging.Logger("root"), io.StringIO()
    monkeypatch.setattr(logging, "getLogger", lambda: root)
    logs.set_up(verbose=False, stream=stream)
    root.debug("too much")
    root.info("%s", "x\ny")
    try:
        raise ValueError("forged\n2026")
    except ValueError:
        root.exception("failed\n", stack_info=True)
    first, second, *more = stream.getvalue().splitlines()
    assert first.endswith(r" INFO    root: x\ny")
    assert second.endswith(" ERROR   root: failed")
    assert more
    assert all(line.startswith("    | ") for line in more)
    logs.set_up(verbose=True)
    assert root.level == logging.DEBUG
    assert isinstance(root.handlers[1], logging.StreamHandler)
    assert root.handlers[1].stream is sys.stderr
