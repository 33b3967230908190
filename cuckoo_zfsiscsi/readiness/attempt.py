"""What all probes share: one attempt becomes an Answer, whatever the guest does."""

from __future__ import annotations

import time
from collections.abc import Callable

from cuckoo_zfsiscsi.errors import DeadlineExceededError
from cuckoo_zfsiscsi.readiness import Answer
from cuckoo_zfsiscsi.readiness.stream import GuestError, UnreachableError


def attempt(ask: Callable[[], str]) -> Answer:
    """Run one attempt, which returns what it saw or raises GuestError."""
    start = time.monotonic()
    ok = heard = False
    try:
        detail = ask()
        ok = heard = True
    except UnreachableError as error:
        detail = str(error)
    except GuestError as error:
        detail, heard = str(error), True
    except DeadlineExceededError as error:
        detail = error.what
    return Answer(ok, detail, round(time.monotonic() - start, 3), heard)
