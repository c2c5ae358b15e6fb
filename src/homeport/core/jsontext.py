"""JSON from elsewhere, read strictly: what two programs could read differently is refused.

The standard library's scanner is used for this, not msgspec: it tells where it stopped, so an array
can be read piece by piece, and it shows the names of an object before the last of two equal ones
has won.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final


class Refused(ValueError):
    """Many parsers would read it, but not all alike: a field named twice, ``NaN``, ``Infinity``."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Refused(f"names the field {name!r} twice")
            seen.add(name)
    return made


def _constant(name: str) -> Any:
    raise Refused(f"holds {name}, which JSON does not have")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)

decode: Final[Callable[[str], Any]] = _DECODER.decode
"""A whole text → its value. Raises ``ValueError``, of which ``json.JSONDecodeError`` and
``Refused`` are kinds, and ``RecursionError``."""

decode_at: Final[Callable[[str, int], tuple[Any, int]]] = _DECODER.raw_decode
"""The value that begins at a place of a text → it, and the place behind it."""


def fault(error: Exception) -> str:
    """What is wrong with a text, as the end of a sentence that begins with its place."""
    if isinstance(error, json.JSONDecodeError):
        return f"is no JSON: {error.msg} at character {error.pos + 1}"
    if isinstance(error, RecursionError):
        return "is nested too deep"
    if isinstance(error, Refused):
        return str(error)
    return f"holds a number that cannot be read: {error}"
