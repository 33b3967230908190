"""The ways to switch a host's power, first choice first: URL, URL and URL, ..."""

from __future__ import annotations

import re

from cuckoo_zfsiscsi.config.powerurl import PowerUrl
from cuckoo_zfsiscsi.config.wrong import WrongValueError

Way = tuple[PowerUrl, ...]
"""One URL, or several that are used together: a host with two supplies."""
Ways = tuple[Way, ...]

_COMMA = re.compile(r"\s*,\s*")
_AND = re.compile(r"\s+and\s+")


def parse_ways(text: str) -> Ways:
    """Parse a list.

    Raises:
        WrongValueError: a URL is not right, or is there twice.
    """
    items = _COMMA.split(text.strip())
    ways = [
        _parse_way(item, f"item {number}: " if len(items) > 1 else "")
        for number, item in enumerate(items, 1)
    ]
    seen: list[PowerUrl] = []
    for url in (url for way in ways for url in way):
        if url in seen:
            raise WrongValueError(f"{url} is there twice", "remove one of the two")
        seen.append(url)
    return tuple(ways)


def _parse_way(text: str, where: str) -> Way:
    try:
        return tuple(PowerUrl.parse(url) for url in _AND.split(text))
    except WrongValueError as error:
        raise WrongValueError(where + error.reason, error.fix) from None


def write_way(way: Way) -> str:
    """Write one way as it is written in the file."""
    return " and ".join(map(str, way))


def write_ways(ways: Ways) -> str:
    """Write a list as it is written in the file."""
    return ", ".join(map(write_way, ways))
