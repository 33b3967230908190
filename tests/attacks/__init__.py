"""What one guest can do to others: nothing. Each file is one theme, each test one attack.

The docstring of a test is a row of the table that `python -m bench.attacks --table` prints: its
first paragraph is the attack; `Before:` begins what it did once, `Now:` what holds against it. What
a test measures it gives to pytest's record_property, and the table shows it as the bound seen:

    def test_half_a_login(farm: Farm, record_property: Record) -> None:
        "48 bytes of a login that promises more, from four connections.

        Before: nobody logged in at that portal as long as it went on.
        Now: a sibling's start is late by at most 2 s.
        "
        ...
        record_property("start late, s", round(late, 2))

Peers: farm.py of tests/faults has the service, its target, DHCP and BMCs, all real, and hosts whose
guests are played, each in a network namespace of its own. infected.py is malware on one of them,
with whatever it may know and do; moves/ are the primitives that it plays, in a test of one's own
(conftest.py: malware), or at random: session.py.
"""
