"""Dotted paths into plain documents, and the one value that says "nothing is there"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final[Any] = _Missing()
"""No such field. Not null, which is a value."""


def get_path(document: Any, path: str, default: Any = MISSING) -> Any:
    """The value at a dotted path of a plain document. A path goes through objects only; where it
    does not arrive, the answer is ``default``. The empty path is the document itself."""
    value = document
    if path:
        for name in path.split("."):
            if not isinstance(value, Mapping) or name not in value:
                return default
            value = value[name]
    return value
