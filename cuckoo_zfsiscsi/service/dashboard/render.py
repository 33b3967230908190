"""The templates. Everything that is filled in is escaped: guests and BMCs have a say in it."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.filesize import decimal

HERE = Path(__file__).parent
STATIC = HERE / "static"

_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    undefined=StrictUndefined,
    autoescape=True,
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


_templates.filters["when"] = _when
_templates.filters["bytes"] = lambda count: decimal(int(count))
# Browsers may keep these files for good: another content has another address.
_templates.globals["static"] = {
    path.name: f"/static/{path.name}?{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    for path in STATIC.iterdir()
}


def render(template: str, /, **values: object) -> str:
    """Fill in one template."""
    return _templates.get_template(template).render(**values)
