"""One section's text against its model: every mistake, and every value that is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from cuckoo_zfsiscsi.config.base import Section
from cuckoo_zfsiscsi.config.mistakes import Mistake, looks_secret, nearest
from cuckoo_zfsiscsi.config.wrong import WrongValueError

_REASONS = {
    "bool_parsing": "is neither yes nor no",
    "float_parsing": "is not a number",
    "finite_number": "is not a number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_parsing": "is not a whole number",
    "ip_v4_address": "is not an IPv4 address",
    "ip_v4_interface": "is not an IPv4 address with its network's size",
    "ip_v4_network": "is not an IPv4 network, the first address of it /BITS",
    "ip_v6_network": "is not an IPv6 network",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
}


@dataclass
class Checked:
    """What is known of one section."""

    values: dict[str, Any] = field(default_factory=dict)
    """Values that are right, defaults included."""
    given: dict[str, str] = field(default_factory=dict)
    """Text of the keys that are ours."""
    mistakes: list[Mistake] = field(default_factory=list)
    meant: str = ""
    """Name of the section, as it should be."""
    wrong: set[str] = field(default_factory=set)
    """Keys that somebody meant to write: their absence is not worth a second mistake."""


def check_section(
    model: type[Section], section: str, text: Mapping[str, str], unread: set[str]
) -> Checked:
    """Check each key by itself.

    Args:
        model: of the section.
        section: its name.
        text: keys and values.
        unread: keys whose mistakes are known already.
    """
    keys = model.keys()
    checked = Checked(meant=section, wrong=set(unread))
    for key, value in text.items():
        if key in keys:
            checked.given[key] = value
        elif key not in model.capes_own:
            mistake, meant = _stranger(section, key, value, keys)
            checked.mistakes.append(mistake)
            checked.wrong |= meant
    for key, info in keys.items():
        if key in checked.given:
            _check_value(model, section, key, checked)
        elif not info.is_required():
            checked.values[key] = info.default  # there is no default_factory
        elif key not in checked.wrong:
            fix = f"add a line to [{section}]: {_example(key, info)}"
            checked.mistakes.append(Mistake(section, key, "", "this key is missing", fix))
    return checked


def _check_value(model: type[Section], section: str, key: str, checked: Checked) -> None:
    text = checked.given[key]
    try:
        checked.values[key] = _adapter(model, key).validate_python(text)
    except ValidationError as error:
        checked.wrong.add(key)
        for detail in error.errors(include_url=False):
            reason, fix = _explain(key, model.keys()[key], detail)
            fix = fix.replace("/HOST.", f"/{section}.")
            checked.mistakes.append(Mistake(section, key, text, reason, fix))


@cache
def _adapter(model: type[Section], key: str) -> TypeAdapter[Any]:
    info = model.model_fields[key]
    annotated: Any = Annotated[info.annotation, info]
    return TypeAdapter(annotated)


def _stranger(
    section: str, key: str, value: str, keys: Mapping[str, FieldInfo]
) -> tuple[Mistake, set[str]]:
    """Return the mistake of an unknown key, and the known ones that were probably meant."""
    if looks_secret(key) and not value.startswith("/"):
        meant = nearest(key, [k for k in keys if looks_secret(k)])
        file = meant or "power_password_file"
        path = f"/etc/zfsiscsi/{'token' if 'token' in file else f'{section}.password'}"
        fix = f"put it into a file of mode 600 and name that one: {file} = {path}"
        return Mistake(section, key, value, "a secret in clear text", fix), {file}
    best = nearest(key, keys)
    reason = f"there is no key {key} here"
    if best:
        fix = f"did you mean {best}? {_example(best, keys[best])}"
        return Mistake(section, key, value, reason, fix), {best}
    return Mistake(section, key, value, reason, f"remove it; known are {', '.join(keys)}"), set()


def _explain(key: str, info: FieldInfo, detail: ErrorDetails) -> tuple[str, str]:
    """Return reason and fix of what pydantic found."""
    context = detail.get("ctx", {})
    cause = context.get("error")
    fix = ""
    if isinstance(cause, WrongValueError):
        reason, fix = cause.reason, cause.fix
    else:
        reason = _REASONS.get(detail["type"], "is not valid").format(**context)
    if detail["type"] == "literal_error":
        best = nearest(str(detail["input"]), _choices(info.annotation))
        fix = f"did you mean {best}?" if best else ""
    if detail["loc"] and len(str(detail["input"])) < 40:  # one item of a list
        reason = f"{detail['input'] or 'an empty item'}: {reason}"
    return reason, fix or f"write it like this: {_example(key, info)}"


def _choices(annotation: Any) -> list[str]:  # noqa: ANN401 - typing has no type for annotations
    """Return the words that a Literal, or a tuple of them, allows."""
    words: list[str] = []
    for argument in get_args(annotation):
        words += [argument] if isinstance(argument, str) else _choices(argument)
    return words


def _example(key: str, info: FieldInfo) -> str:
    return f"{key} = {(info.examples or [''])[0]}"
