"""One section for many networks: [network:pc{n}], for as many hosts that have a network each.

    [network:pc{n}]
    n = 1-40
    interface = vlan{n+100}
    address = 10.99.{n}.1/24

makes the networks pc1 to pc40. {n} is the number, in the name and in every value; {n+100}, {4*n}
and {4*n+1} are reckoned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from cuckoo_zfsiscsi.config.ini import Ini
from cuckoo_zfsiscsi.config.mistakes import Mistake
from cuckoo_zfsiscsi.config.networks import PREFIX

KEY = "n"
"""Of the numbers."""
MOST = 1000
"""Networks of one section: an interface each."""
EXAMPLE = "n = 1-40; or n = 1-20,25,30-32"
_REFERENCE = re.compile(r"\{(?:(\d{1,5})\*)?n(?:([+-])(\d{1,5}))?\}")
_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


def expand(ini: Ini) -> Ini:
    """Return the file with each template replaced by the sections that it stands for."""
    sections: dict[str, dict[str, str]] = {}
    mistakes = list(ini.mistakes)
    for name, values in ini.sections.items():
        if not _is_template(name):
            sections[name] = values
            continue
        found = list(_mistakes(name, values))
        mistakes += found
        if found:
            continue
        for number in parse_numbers(values[KEY]):
            made = fill(name, number)
            if made in ini.sections or made in sections:
                fix = f"remove [{made}], or take {number} out of {KEY} = {values[KEY]}"
                mistakes.append(Mistake(name, KEY, values[KEY], f"[{made}] is there already", fix))
                continue
            sections[made] = {k: fill(text, number) for k, text in values.items() if k != KEY}
    return replace(ini, sections=sections, mistakes=tuple(mistakes))


def fill(text: str, number: int) -> str:
    """Put a number into a name or value."""

    def reckon(found: re.Match[str]) -> str:
        factor, sign, offset = found.groups()
        by = int(offset or 0)
        return str(int(factor or 1) * number + (-by if sign == "-" else by))

    return _REFERENCE.sub(reckon, text)


def parse_numbers(text: str) -> list[int]:
    """Return the numbers of 1-20,25,30-32, each once; none if it is nothing like that."""
    numbers: dict[int, None] = {}
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        if not found:
            return []
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last - first >= MOST:
            return []
        numbers |= dict.fromkeys(range(first, last + 1))
    return list(numbers) if len(numbers) <= MOST else []


def _is_template(name: str) -> bool:
    return name.startswith(PREFIX) and "{" in name


def _mistakes(name: str, values: Mapping[str, str]) -> Iterator[Mistake]:
    given = values.get(KEY)
    if given is None:
        yield Mistake(name, KEY, "", "this key is missing: the numbers", f"add a line: {EXAMPLE}")
    elif not parse_numbers(given):
        yield Mistake(name, KEY, given, f"is no list of at most {MOST} numbers", EXAMPLE)
    for key, text in [("", name), *values.items()]:
        if key != KEY and (rest := _REFERENCE.sub("", text)) != rest.translate(_BRACES):
            reason = "has { or } that is no number" if key else "the name's braces are no number"
            yield Mistake(name, key, text if key else "", reason, "write {n}, {n+100} or {4*n+1}")


_BRACES = str.maketrans("", "", "{}")
