from __future__ import annotations

from cuckoo_zfsiscsi import ratelimit
from cuckoo_zfsiscsi.ratelimit import RateLimiter
from tests.clocks import VirtualClock


def allowed(limiter: RateLimiter, key: str, times: int) -> int:
    return sum(limiter.allow(key) for _ in range(times))


def test_a_burst_and_a_rate_for_each() -> None:
    clock = VirtualClock()
    limiter = RateLimiter(2.0, 5, clock)
    assert allowed(limiter, "pc1", 100) == 5
    assert allowed(limiter, "pc2", 100) == 5, "another has a share of its own"
    clock.sleep(1.0)
    assert allowed(limiter, "pc1", 100) == 2
    clock.sleep(1000.0)
    assert allowed(limiter, "pc1", 100) == 5, "no more is saved up"


def test_what_is_refused_costs_nothing() -> None:
    clock = VirtualClock()
    limiter = RateLimiter(1.0, 1, clock)
    allowed(limiter, "pc1", 1000)
    clock.sleep(1.0)
    assert limiter.allow("pc1")


def test_its_memory_is_bounded() -> None:
    clock = VirtualClock()
    limiter = RateLimiter(1.0, 1, clock)
    for number in range(3 * ratelimit.MOST):
        clock.sleep(0.01)
        limiter.allow(number)
    assert len(limiter._buckets) <= ratelimit.MOST
