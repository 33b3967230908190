"""Values of CAPE's configuration, as CAPE takes them."""

from __future__ import annotations

import configparser


def is_on(text: str | None) -> bool:
    """Tell whether a switch is on."""
    return configparser.ConfigParser.BOOLEAN_STATES.get((text or "").lower(), False)


def number(text: str | None) -> float:
    """Return a number; 0 for none."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def words(text: str | None) -> list[str]:
    """Return what is listed with commas."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]
