"""Readiness: what must answer before a host counts as booted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What one probe saw."""

    ok: bool
    detail: str
    """One line for people: what answered, or why it does not count."""
    seconds: float
    """How long the probe took."""
    heard: bool
    """Someone is there and reacted, if not as wanted. CAPE's agent, once CAPE has pinned it, closes
    the connections of everyone else without a word."""
