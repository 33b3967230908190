"""What a power strip has really said, where labgrid's model takes all but one word for "off".

`r.text == "1"` makes "off" of a login page, of what a redirect leads to, of `1` with a line's end,
and of an outlet that is about to switch. So the answers are kept here, and read once more: only
the model's own two words count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    import requests

SHOWN = 40
"""Letters of an answer that are told."""


@dataclass(frozen=True, slots=True)
class Words:
    """How a model says the state of an outlet.

    Args:
        pattern: a regular expression whose one group is the word. {outlet} in it is the outlet's
            number, {before} how many come before it when they are counted from 1.
        on: the word.
        off: the other one.
    """

    pattern: str
    on: str = "1"
    off: str = "0"


WHOLE = Words(r"\A\s*(.*?)\s*\Z")
MODELS = {
    "rest": WHOLE,
    "simplerest": WHOLE,
    "tinycontrol": Words(r"<out{outlet}>\s*(.*?)\s*</out{outlet}>"),
    "tinycontrol_tcpdu": Words(r'"out{outlet}"\s*:\s*(.*?)\s*[,}}]'),
    "eth008": Words(r"\A\s*\S+\s+\S{{{before}}}(\S)"),
    "pe6216": Words(r"<\d+>(ON|OFF|PENDING)<", "ON", "OFF"),
}
"""Those that fail open in labgrid 26.0. The others raise an error, or tell "on", of what they do
not know; eaton takes "pending off" for off, see judge()."""
EATON_PENDING_OFF = 2
"""outletControlStatus of EATON-EPDU-MIB: it is still on."""


class MisunderstoodError(ValueError):
    """The device has said something else than on or off."""


@contextmanager
def heard(backend: ModuleType) -> Iterator[list[Any]]:
    """Keep what the device says while a model asks it: answers over HTTP, values over SNMP.

    The process is one for this call, so nobody else asks meanwhile.
    """
    import requests

    kept: list[Any] = []
    whole = requests.Session.request

    def request(self: requests.Session, *args: Any, **options: Any) -> requests.Response:  # noqa: ANN401 - as requests has it
        answer = whole(self, *args, **options)
        kept.append(answer)
        return answer

    requests.Session.request = request  # type: ignore[method-assign]
    snmp = getattr(backend, "SimpleSNMP", None)
    if snmp is not None:
        backend.SimpleSNMP = lambda *args, **options: _Snmp(snmp(*args, **options), kept)  # type: ignore[attr-defined]
    try:
        yield kept
    finally:
        requests.Session.request = whole  # type: ignore[method-assign]
        if snmp is not None:
            backend.SimpleSNMP = snmp  # type: ignore[attr-defined]


class _Snmp:
    def __init__(self, inner: Any, kept: list[Any]) -> None:  # noqa: ANN401 - labgrid's
        self._inner, self._kept = inner, kept

    def get(self, oid: str) -> Any:  # noqa: ANN401 - labgrid's
        value = self._inner.get(oid)
        self._kept.append(value)
        return value

    def set(self, oid: str, value: Any) -> None:  # noqa: ANN401 - labgrid's
        self._inner.set(oid, value)


def check(model: str, kept: list[Any]) -> None:
    """Refuse what another page than that of the URL has answered.

    Raises:
        MisunderstoodError: a redirect was followed, as to a page that asks for a password.
    """
    for answer in kept:
        if model in MODELS and answer.history:
            raise MisunderstoodError(f"it redirects to {answer.url[: 2 * SHOWN]}: is that a login?")


def judge(model: str, outlet: str, state: object, kept: list[Any]) -> bool:
    """Tell whether the outlet is on.

    Args:
        model: of labgrid.
        outlet: its number.
        state: what the model makes of the answer.
        kept: what heard() has kept.

    Raises:
        MisunderstoodError: neither on nor off was said.
    """
    check(model, kept)
    if model in MODELS:
        return read(MODELS[model], outlet, kept[-1].text if kept else "")
    if model == "eaton" and kept and kept[-1] == EATON_PENDING_OFF:
        return True
    # True, 1 or something like it: anything else is not understood
    if state not in (True, False):
        raise MisunderstoodError(f"it says {str(state)[:SHOWN]!r}")
    return bool(state)


def read(words: Words, outlet: str, text: str) -> bool:
    """Tell whether a device's text says that the outlet is on.

    Raises:
        MisunderstoodError: it says something else than on or off.
    """
    pattern = words.pattern.format(outlet=outlet, before=max(0, int(outlet) - 1))
    found = re.search(pattern, text, re.DOTALL)
    if found and found[1] in (words.on, words.off):
        return found[1] == words.on
    said = found[1] if found else text.strip()
    raise MisunderstoodError(f"it says {said[:SHOWN]!r}, neither {words.on!r} nor {words.off!r}")
