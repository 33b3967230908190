from __future__ import annotations

from cuckoo_zfsiscsi.netboot import clients
from cuckoo_zfsiscsi.netboot.clients import Clients
from tests.clocks import VirtualClock

HOSTS = {("10.99.0.11", "10.99.0.1"), ("10.99.0.12", "10.99.0.1"), ("10.99.20.13", "10.99.20.1")}
ONE, OTHER, SERVER = "10.99.0.11", "10.99.0.12", "10.99.0.1"


class Connection:
    ended = False

    def abort(self) -> None:
        self.ended = True


def make(clock: VirtualClock) -> Clients:
    return Clients(lambda source, asked: (source, asked) in HOSTS, clock)


def test_hosts_alone_and_each_in_its_network() -> None:
    known = make(VirtualClock())
    assert known.refuse(Connection(), ONE, SERVER) == ""
    assert known.refuse(Connection(), "10.99.20.13", "10.99.20.1") == ""
    for source, asked in ((ONE, "10.99.20.1"), ("10.99.20.13", SERVER), ("10.99.0.99", SERVER)):
        assert "no host of that network" in known.refuse(Connection(), source, asked)


def test_the_oldest_ends_for_a_new_one() -> None:
    """A firmware is not kept out by what the guest before it has left open."""
    known = make(VirtualClock())
    mine = [Connection() for _ in range(clients.AT_ONCE + 2)]
    sibling = Connection()
    assert known.refuse(sibling, OTHER, SERVER) == ""
    assert not any(known.refuse(one, ONE, SERVER) for one in mine)
    assert [one.ended for one in mine] == 2 * [True] + clients.AT_ONCE * [False]
    assert not sibling.ended
    for one in mine:
        known.leave(one, ONE)
    assert known.refuse(mine[0], ONE, SERVER) == ""
    known.leave(mine[0], ONE)
    known.leave(sibling, OTHER)
    assert not known._open


def test_who_connects_too_often_waits() -> None:
    clock = VirtualClock()
    known = make(clock)
    rate, burst = clients.CONNECTIONS
    refused = [known.refuse(Connection(), ONE, SERVER) for _ in range(2 * burst)]
    assert refused == burst * [""] + burst * ["it connects too often"]
    assert known.refuse(Connection(), OTHER, SERVER) == ""
    clock.sleep(1.01 / rate)
    assert known.refuse(Connection(), ONE, SERVER) == ""


def test_requests_of_each() -> None:
    clock = VirtualClock()
    known = make(clock)
    rate, burst = clients.REQUESTS
    assert sum(known.may_ask(ONE) for _ in range(2 * burst)) == burst
    assert known.may_ask(OTHER)
    clock.sleep(1.01 / rate)
    assert known.may_ask(ONE)
