"""The URLs that say how a host's power is switched: ipmi://admin@10.98.0.11:623?cipher=3."""

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
_NO_ADDRESS = re.compile(r"^NEEDS_ADDRESS = False$", re.MULTILINE)
_BARE = re.compile(r"[a-z][a-z0-9+_]*")
_PATH = re.compile(r"(/[A-Za-z0-9._+-]+)+")
_FILE = "password_file"
"""The one option whose name is that of a secret; its value is not one."""


@lru_cache(maxsize=1)
def _drivers() -> Mapping[str, str]:
    """Return the text of the modules in power/ that define connect(), by name.

    They are found without being imported, so that a driver is one file and a broken one hurts
    nobody who does not use it.
    """
    folder = Path(__file__).parent.parent / "power"
    names = (module.name for module in pkgutil.iter_modules([str(folder)]))
    texts = {name: (folder / f"{name}.py").read_text("utf-8") for name in sorted(names)}
    return {name: text for name, text in texts.items() if _CONNECT.search(text)}


@lru_cache(maxsize=1)
def power_schemes() -> tuple[str, ...]:
    """Return the URL schemes that can be used: the names of the drivers."""
    return tuple(_drivers())


@dataclass(frozen=True)
class PowerUrl:
    """A parsed power URL. It never holds a password; str() gives the URL back."""

    scheme: str
    host: str
    user: str | None = None
    port: int | None = None
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What the driver alone understands. `outlet` tells apart the hosts that share a device."""
    path: str = ""
    """Of a program, where the driver runs one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user is not None else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port is not None else ""
        options = f"?{urlencode(self.options)}" if self.options else ""
        if not (user or host or port or options or self.path):
            return self.scheme
        return f"{self.scheme}://{user}{host}{port}{self.path}{options}"

    @property
    def driver(self) -> str:
        """The driver's name: what follows a "+" is its own affair."""
        return self.scheme.partition("+")[0]

    @property
    def password_file(self) -> Path | None:
        """File with the password for this device, if it has one of its own."""
        path = self.options.get(_FILE)
        return Path(path) if path else None

    def same_outlet(self, other: PowerUrl) -> bool:
        """Tell whether two URLs switch the same thing. A port left out may be any port."""
        if not self.host and not self.path:
            return False  # what is switched is in the host's own section
        if self.driver == "wol" and "mac" not in self.options:
            return False  # so is the card that is woken: the address is everybody's
        ports = {self.port, other.port}
        return (
            self._outlet == other._outlet
            and (len(ports) == 1 or None in ports)
        )  # fmt: skip

    @property
    def _outlet(self) -> tuple[str | None, ...]:
        which = ("outlet", "system", "args", "mac")
        return (
            self.scheme,
            self.host.lower(),
            self.path,
            *(self.options.get(name) for name in which),
        )

    @classmethod
    def parse(cls, text: str) -> PowerUrl:
        """Parse a URL.

        Raises:
            WrongValueError: it is not a power URL, no driver has its scheme, or it has a password.
        """
        if _BARE.fullmatch(text) and _may_be_bare(text):
            return cls(text, "")
        scheme, _, rest = text.partition(":")
        scheme = scheme.lower()
        try:
            parts = urlsplit(f"x:{rest}")  # urlsplit knows no scheme with "_", labgrid has models
            port = parts.port
        except ValueError:
            raise WrongValueError("is not a URL", _EXAMPLE) from None
        bare = _may_be_bare(scheme)
        if not _BARE.fullmatch(scheme) or not (
            parts.netloc or (bare and (parts.path or parts.query))
        ):
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
        if port == 0 or not (_HOST.fullmatch(parts.hostname or "") or (bare and not parts.netloc)):
            raise WrongValueError("has no valid address", _EXAMPLE)
        path = parts.path if parts.path != "/" else ""
        if parts.fragment or (path and (parts.netloc or not _PATH.fullmatch(path) or ".." in path)):
            raise WrongValueError("nothing can follow the address but ?options", _EXAMPLE)
        return cls(
            scheme=scheme,
            host=parts.hostname or "",
            user=unquote(parts.username) if parts.username else None,
            port=port,
            options=_parse_options(parts.query),
            path=path,
        )


def _may_be_bare(scheme: str) -> bool:
    """Tell whether a driver can do without an address."""
    return bool(_NO_ADDRESS.search(_drivers().get(scheme.partition("+")[0], "")))


def _parse_options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise WrongValueError("what follows ? is not name=value&name=value", _EXAMPLE) from None
    options = dict(pairs)
    if len(options) != len(pairs):
        raise WrongValueError("an option is there twice", "remove one of the two")
    file = options.get(_FILE)
    if file is not None and not file.startswith("/"):
        raise WrongValueError(
            "password_file is no absolute path", f"{_FILE}=/etc/zfsiscsi/DEVICE.password"
        )
    if any(looks_secret(name) for name in options if name != _FILE):
        raise WrongValueError(
            "a secret in clear text",
            "put it into a file of mode 600: power_password_file = /etc/zfsiscsi/HOST.password",
        )
    return options
