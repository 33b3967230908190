"""Attacks of one host's guest: a random session beside runs of three others.

    .venv/bin/python -m bench.attacks [--moves 2000] [--seed N] [--alone] [--only A,B]
                                      [--without A,B] [--show] [--json FILE]
    .venv/bin/python -m bench.attacks --list
    .venv/bin/python -m bench.attacks --table [ARGUMENT...]
    .venv/bin/python -m bench.attacks --document

The service, its target, its DHCP server, its firewall and one BMC per host are real, the hosts'
guests are played. The infected one plays moves, of more than forty kinds: frames, ARP, DHCP, TFTP,
HTTP, iSCSI, SCSI, the places of others. The others begin and end runs meanwhile, and what each
finds on its disk is compared with the golden image, whole. A seed plays the same moves again.

No run may begin or end with a wrong disk, no process of the service may die, no start may fail, and
none be late by more than 2 s, no reset by more than 1 s; but for boots that the service gives up
because somebody is in their host's place on the wire that they share.

--list prints the primitives. --table plays the attacks of tests/attacks one by one, with arguments
for pytest, and prints how each ended and what it has measured. --document puts their table into
docs/security.rst.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.attacks import table
from tests.attacks.moves import primitives
from tests.attacks.session import Result, Session
from tests.faults.farm import Farm
from tests.faults.patience import SERVICE

HOSTS = 4
ATTACKS = table.TESTS / "attacks"
DOCUMENT = table.TESTS.parent / "docs" / "security.rst"


def play(
    seed: int,
    moves: int,
    *,
    alone: bool,
    only: list[str],
    without: list[str],
    show: bool = False,
) -> Result:
    """Play a session in a farm of its own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="zfsiscsi-attacks-") as folder:
        farm = Farm(Path(folder), HOSTS, timeout=SERVICE, alone=alone)
        try:
            farm.open()
            session = Session(farm, seed, only, without)
            return session.run(moves)
        finally:
            if show:
                for log in ("service.log", "moves.log", "attacker.log"):
                    if (farm.at / log).exists():
                        print(f"--- {log}\n{(farm.at / log).read_text(errors='replace')}")
            farm.close()


def play_each(arguments: list[str]) -> int:
    """Run the tests of all attacks, and print their table; 1 if one of them fails."""
    seen, attacks = table.Seen(), table.find()
    code = pytest.main(["-q", *(arguments or [str(ATTACKS)])], plugins=[seen])
    print(table.show(attacks, seen))
    return int(code != 0)


def words(text: str) -> list[str]:
    """Return the words between commas."""
    return [word for word in text.split(",") if word]


def main() -> int:
    """Play it; 1 if something is not as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--moves", type=int, default=2000)
    parser.add_argument("--alone", action="store_true", help="each host on a wire of its own")
    parser.add_argument("--seed", type=int, help="of a session that is to be played again")
    parser.add_argument("--only", default="", help="primitives or themes, by commas")
    parser.add_argument("--without", default="", help="primitives or themes, by commas")
    parser.add_argument("--list", action="store_true", help="print all primitives")
    parser.add_argument("--show", action="store_true", help="print all logs in the end")
    parser.add_argument("--table", nargs=argparse.REMAINDER, metavar="ARGUMENT", help="see above")
    parser.add_argument("--document", action="store_true", help="see above")
    parser.add_argument("--json", type=Path, help="write what came out to this file")
    options = parser.parse_args()
    if options.list:
        for one in primitives().values():
            print(f"{one.name:20} {one.what}")
        return 0
    if options.table is not None:
        return play_each(options.table)
    if options.document:
        DOCUMENT.write_text(table.update(DOCUMENT.read_text(), table.find()))
        return 0
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    result = play(
        seed, options.moves, alone=options.alone, only=words(options.only),
        without=words(options.without), show=options.show,
    )  # fmt: skip
    print(result)
    if faults := result.faults(timed=True):
        print("the last moves:", *result.last, "", *faults, sep="\n")
    print("FAIL" if faults else "PASS")
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=1) + "\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
