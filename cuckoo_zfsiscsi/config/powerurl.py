"""The URL that says how a host's power is switched: ipmi://admin@10.98.0.11:623?cipher=3."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from cuckoo_zfsiscsi.config.mistakes import looks_secret, nearest
from cuckoo_zfsiscsi.config.wrong import WrongValueError

_EXAMPLE = "power = ipmi://admin@10.98.0.11"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_CONNECT = re.compile(r"^def connect\(", re.MULTILINE)


@lru_cache(maxsize=1)
def power_schemes() -> tuple[str, ...]:
    """Return the URL schemes that can be used: the modules in power/ that define connect().

    They are found without being imported, so that a driver is one file and a broken one hurts
    nobody who does not use it.
    """
    folder = Path(__file__).parent.parent / "power"
    names = (module.name for module in pkgutil.iter_modules([str(folder)]))
    return tuple(
        sorted(n for n in names if _CONNECT.search((folder / f"{n}.py").read_text("utf-8")))
    )


@dataclass(frozen=True)
class PowerUrl:
    """A parsed power URL. It never holds a password; str() gives the URL back."""

    scheme: str
    host: str
    user: str | None = None
    port: int | None = None
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What the driver alone understands. `outlet` tells apart the hosts that share a device."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user is not None else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port is not None else ""
        options = f"?{urlencode(self.options)}" if self.options else ""
        return f"{self.scheme}://{user}{host}{port}{options}"

    def same_outlet(self, other: PowerUrl) -> bool:
        """Tell whether two URLs switch the same thing. A port left out may be any port."""
        ports = {self.port, other.port}
        return (
            (self.scheme, self.host.lower(), self.options.get("outlet"))
            == (other.scheme, other.host.lower(), other.options.get("outlet"))
            and (len(ports) == 1 or None in ports)
        )  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> PowerUrl:
        """Parse a URL.

        Raises:
            WrongValueError: it is not a power URL, no driver has its scheme, or it has a password.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise WrongValueError("is not a URL", _EXAMPLE) from None
        scheme = parts.scheme
        if not scheme or not parts.netloc:
            raise WrongValueError("is not a URL", _EXAMPLE)
        if parts.password is not None or ":" in parts.netloc.rpartition("@")[0]:
            raise WrongValueError(
                "a password in clear text",
                "take it out of the URL, put it into a file of mode 600 and name that one: "
                "power_password_file = /etc/zfsiscsi/HOST.password",
            )
        if scheme.partition("+")[0] not in power_schemes():  # what follows + is the driver's affair
            known = ", ".join(power_schemes())
            best = nearest(scheme, power_schemes())
            hint = f"did you mean {best}://?" if best else f"use one of: {known}"
            raise WrongValueError(f"there is no power driver {scheme}", hint)
        if not _HOST.fullmatch(parts.hostname or "") or port == 0:
            raise WrongValueError("has no valid address", _EXAMPLE)
        if parts.path not in ("", "/") or parts.fragment:
            raise WrongValueError("nothing can follow the address but ?options", _EXAMPLE)
        return cls(
            scheme=scheme,
            host=str(parts.hostname),
            user=unquote(parts.username) if parts.username else None,
            port=port,
            options=_parse_options(parts.query),
        )


def _parse_options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise WrongValueError("what follows ? is not name=value&name=value", _EXAMPLE) from None
    options = dict(pairs)
    if len(options) != len(pairs):
        raise WrongValueError("an option is there twice", "remove one of the two")
    if any(looks_secret(name) for name in options):
        raise WrongValueError(
            "a secret in clear text",
            "put it into a file of mode 600: power_password_file = /etc/zfsiscsi/HOST.password",
        )
    return options
