"""Plays moves from a host's guest, one after the other: run in its network namespace.

    python -m tests.attacks.attacker --knows FILE --log FILE --pid PID [--seed N] [--first N]
                                     [--moves N] [--only A,B] [--without A,B]

Each move is written down before it is played, and again with what came of it. When the process of
the guest ends, as power is cut, so does this one, at once.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
import traceback
from itertools import islice
from pathlib import Path

from tests.attacks.infected import Infected, Knowledge, when_off
from tests.attacks.moves import plan
from tests.iscsi import LoginError

LONGEST = 6.0
"""Seconds after which a move is broken off."""
PAUSE = 0.15
"""Seconds between two moves, at most: so they meet others in all that these do."""
REFUSED = "refused"
WRONG = "WRONG"
"""What came of a move that was let do what it must not be."""


class TooLongError(OSError):
    """A move has taken too long."""


def too_long(_signal: int, _frame: object) -> None:
    raise TooLongError(f"broken off after {LONGEST:g} s")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--knows", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--moves", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--without", default="")
    options = parser.parse_args()
    when_off(options.pid, lambda: os._exit(0))
    infected = Infected(Knowledge.load(options.knows.read_text()))
    only, without = (filter(None, text.split(",")) for text in (options.only, options.without))
    moves = plan(options.seed, list(only), list(without))
    pauses = random.Random(options.seed)  # noqa: S311
    signal.signal(signal.SIGALRM, too_long)
    with options.log.open("a", buffering=1) as log:
        for move in islice(moves, options.first - 1, options.first - 1 + options.moves):
            begin = time.monotonic()
            log.write(f"{move} {begin:.3f}\n")
            signal.setitimer(signal.ITIMER_REAL, LONGEST)
            try:
                came = move.play(infected)
            except AssertionError as error:
                came = f"{WRONG}: {error}"
            except (OSError, LoginError, ValueError) as error:
                came = f"{REFUSED}: {type(error).__name__} {error}"
            except Exception:  # noqa: BLE001 - a mistake of the suite's, to be shown by it
                came = f"{WRONG}: {traceback.format_exc()!r}"
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            came = " ".join(came.split())
            log.write(f"  {time.monotonic() - begin:.2f} s: {came}\n")
            time.sleep(pauses.uniform(0, PAUSE))
    # What it holds open it goes on holding, until power is cut
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
