"""Our keys in zfsiscsi.conf, as CAPE has read them: its coercions are undone here."""

from __future__ import annotations

import math
from typing import Any

from cuckoo_zfsiscsi.cape.client import ServiceError

START_TIMEOUT = 300.0
STOP_TIMEOUT = 60.0


class Options:
    """What the plugin needs.

    Args:
        config: CAPE's Config of zfsiscsi.conf.
        section: the machinery's own, [zfsiscsi].

    Raises:
        ServiceError: a value can't be used.
    """

    def __init__(self, config: Any, section: str) -> None:  # noqa: ANN401 - CAPE's has no type
        self._config = config
        self._section = section
        self.service = self._text(section, "service") or "http://127.0.0.1:8470"
        self.token_file = self._text(section, "token_file") or None
        self.ca_file = self._text(section, "ca_file") or None
        self.start_timeout = self._seconds("start_timeout", START_TIMEOUT)
        self.stop_timeout = self._seconds("stop_timeout", STOP_TIMEOUT)

    def image(self, label: str) -> str | None:
        """Return the host's image (CAPE's snapshot); None leaves it to the service."""
        for machine in self._config.get(self._section)["machines"]:
            section = str(machine).strip()
            if self._text(section, "label") == label:
                return self._text(section, "snapshot") or None
        return None

    def _text(self, section: str, key: str) -> str:
        """Return the value as written: CAPE makes True of `on` and 123 of `0123`."""
        value = self._config.get(section).get(key)
        if value is not None and not isinstance(value, str):
            value = self._config.fullconfig[section][key]
        return str(value or "").strip()

    def _seconds(self, key: str, default: float) -> float:
        text = self._text(self._section, key)
        try:
            seconds = float(text) if text else default
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise ServiceError(
                "wrong option",
                f"{key} = {text} in [{self._section}] of zfsiscsi.conf is no number of seconds",
                fix=f"{key} = {default:.0f}",
            )
        return seconds
