from __future__ import annotations

import threading

import pytest

from cuckoo_zfsiscsi.deadline import Cancel, Deadline
from cuckoo_zfsiscsi.errors import CancelledError, DeadlineExceededError
from cuckoo_zfsiscsi.power.patient import Patient
from tests.waiting import HANG


def test_result_and_error() -> None:
    patient = Patient()
    assert patient.call("it", Deadline(HANG), lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        patient.call("it", Deadline(HANG), lambda: 1 // 0)
    assert patient.call("it", Deadline(HANG), lambda: "again") == "again"


def test_nobody_waits_beyond_the_deadline() -> None:
    patient, end = Patient(), threading.Event()
    with pytest.raises(DeadlineExceededError, match=r"it took longer than 0\.3 s"):
        patient.call("it", Deadline(0.3), lambda: end.wait(HANG))
    with pytest.raises(DeadlineExceededError, match="the command before still goes on"):
        patient.call("it", Deadline(0.2), lambda: pytest.fail("two at once"))
    end.set()
    assert patient.call("it", Deadline(HANG), lambda: 4) == 4


def test_cancelled() -> None:
    cancel, end = Cancel(), threading.Event()
    threading.Timer(0.2, cancel.set, ("stop",)).start()
    with pytest.raises(CancelledError):
        Patient().call("it", Deadline(HANG, cancel), lambda: end.wait(HANG))
    end.set()
