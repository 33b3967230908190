"""What a strip says, read by ourselves."""

from __future__ import annotations

import pkgutil
from types import ModuleType

import labgrid.driver.power
import pytest

from cuckoo_zfsiscsi.power.pdu_answers import (
    EATON_PENDING_OFF,
    MODELS,
    MisunderstoodError,
    heard,
    judge,
    read,
)

SAID = {
    "rest": ("1", "0"),
    "simplerest": ("1\n", " 0\r\n"),
    "tinycontrol": (
        "<response><out1>0</out1><out2>1</out2></response>",
        "<response><out1>1</out1><out2> 0 </out2></response>",
    ),
    "tinycontrol_tcpdu": ('{"out1":0,"out2":1,"out20":0}', '{"out2": 0}'),
    "eth008": ("Relay: 01000000", "Relay: 10111111"),
    "pe6216": ("<html><2>ON</2>", "<html><2>OFF</2>"),
}
"""For outlet 2: what says on, and what says off."""
OTHERS = (
    "",
    "2",
    "10",
    "true",
    "<html><form>password</form></html>",
    '{"POWER":"ON"}',
    '{"POWER":"OFF"}',
    "<2>PENDING</2>",
    '{"out2":null}',
    "<out2></out2>",
    "Relay: x?------",
)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_each_model_has_two_words_and_no_more(model: str) -> None:
    on, off = SAID[model]
    assert read(MODELS[model], "2", on) is True
    assert read(MODELS[model], "2", off) is False
    for text in OTHERS:
        with pytest.raises(MisunderstoodError, match="neither"):
            read(MODELS[model], "2", text)


def test_they_are_models_of_labgrid() -> None:
    there = {module.name for module in pkgutil.iter_modules(labgrid.driver.power.__path__)}
    assert there >= {*MODELS, "eaton"}


class Eaton:
    """What labgrid's SimpleSNMP is to it."""

    value = EATON_PENDING_OFF

    def __init__(self, host: str, community: str, port: object = None) -> None: ...

    def get(self, _oid: str) -> int:
        return self.value

    def set(self, _oid: str, _value: object) -> None: ...


@pytest.mark.parametrize(("value", "says", "is_on"), [(2, False, True), (0, False, False)])
def test_pending_off_is_not_off(value: int, says: bool, is_on: bool) -> None:
    backend = ModuleType("eaton")
    backend.SimpleSNMP = type("Snmp", (Eaton,), {"value": value})  # type: ignore[attr-defined]
    with heard(backend) as kept:
        backend.SimpleSNMP("h", "public", port=None).get("oid")
    assert judge("eaton", "1", says, kept) is is_on


@pytest.mark.parametrize("state", [None, "on", "", 2, [True]])
def test_what_the_others_must_say(state: object) -> None:
    with pytest.raises(MisunderstoodError, match="it says"):
        judge("sentry", "1", state, [])
    assert judge("sentry", "1", True, []) is True
    assert judge("sentry", "1", 0, []) is False
