"""Primitives of an attacker: each one is a function that takes who plays it, and dice.

The same dice make the same move. A move takes about a second at most, leaves connections open if
that is the point of it, and raises OSError where it is refused: it has had its effect then, or
none. What each tells is for the log alone.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from tests.attacks.infected import Infected

Play = Callable[[Infected, random.Random], str]

THEMES = ("wire", "dhcp", "tftp", "http", "iscsi", "scsi", "ip", "places", "control")


@dataclass(frozen=True)
class Primitive:
    """One of them.

    Attributes:
        name: theme and what it does: "tftp.abandon".
        play: does it.
        takes_place: it passes itself off as a sibling or the server, on the wire that it shares
            with them: what it delays there only a wire of its own prevents.
        what: it does, in a line.
    """

    name: str
    play: Play
    takes_place: bool
    what: str


@dataclass(frozen=True)
class Move:
    """One of a session: a primitive, and its dice."""

    number: int
    primitive: Primitive
    seed: int

    def __str__(self) -> str:
        return f"{self.number} {self.primitive.name} {self.seed}"

    def play(self, infected: Infected) -> str:
        """Play it; return what came of it. Raises OSError: it was refused."""
        return self.primitive.play(infected, random.Random(self.seed))  # noqa: S311


_known: dict[str, Primitive] = {}


def primitive(name: str, *, takes_place: bool = False) -> Callable[[Play], Play]:
    """Make a function one of the primitives. Its docstring says what it does."""

    def register(play: Play) -> Play:
        assert name not in _known, name
        what = (play.__doc__ or "").split("\n")[0]
        _known[name] = Primitive(name, play, takes_place, what)
        return play

    return register


def primitives() -> dict[str, Primitive]:
    """Return all of them, by name."""
    for theme in THEMES:
        importlib.import_module(f"{__name__}.{theme}")
    return dict(sorted(_known.items()))


def plan(seed: int, only: Collection[str] = (), without: Collection[str] = ()) -> Iterator[Move]:
    """Give the moves of a session, without end: the same for the same arguments.

    Each primitive comes once at first, so that a short session has them all.

    Args:
        seed: of the session.
        only: primitives, or themes, of which it is made; all by default.
        without: which are left out.

    Raises:
        ValueError: there is none of that name.
    """
    every = primitives()
    if unknown := {*only, *without} - {*every, *(name.split(".")[0] for name in every)}:
        raise ValueError(f"no primitive is called {', '.join(sorted(unknown))}")

    def among(name: str, names: Collection[str]) -> bool:
        return name in names or name.split(".")[0] in names

    chosen = [one for name, one in every.items() if not only or among(name, only)]
    chosen = [one for one in chosen if not among(one.name, without)]
    dice, number = random.Random(seed), 0  # noqa: S311
    first = dice.sample(chosen, len(chosen))
    while True:
        number += 1
        next_one = first.pop() if first else dice.choice(chosen)
        yield Move(number, next_one, dice.getrandbits(32))
