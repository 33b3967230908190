"""What the models of all sections share."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """One section; a field is a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    capes_own: ClassVar[frozenset[str]] = frozenset()
    """Keys that CAPE reads here and we don't."""
    not_keys: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """Return the keys of this section in the file."""
        return {k: v for k, v in cls.model_fields.items() if k not in cls.not_keys}
