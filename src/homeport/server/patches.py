"""Patches on the stored text: only the named paths change, the rest stays byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from homeport.core.paths import MISSING

_levels = msgspec.json.Decoder(dict[str, Raw])


class _Blocked:
    def __repr__(self) -> str:
        return "BLOCKED"


BLOCKED: Final = _Blocked()
"""A value that is no object stands where the path would go through."""

MAX_NESTING: Final = 200
"""Levels of a document; devices refuse more, and could not read them."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_bodies = msgspec.json.Decoder(list[Raw])

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def holds_nul(text: bytes) -> bool:
    """Whether JSON text holds U+0000, which no text of PostgreSQL can."""
    return b"\\u0000" in text and _NUL.search(text) is not None


def too_deep(body: bytes) -> bool:
    """Whether JSON text is nested deeper than ``MAX_NESTING``."""
    if body.count(b"{") + body.count(b"[") <= MAX_NESTING:
        return False
    level = 0
    for sign in re.findall(rb"[\[\]{}]", _STRING.sub(b"", body)):
        level += 1 if sign in b"[{" else -1
        if level > MAX_NESTING:
            return True
    return False


def readable(body: bytes) -> bool:
    """Whether a device can read a message that holds this text. Plain SQL may store what it cannot:
    half a surrogate pair, or thousands of brackets."""
    if too_deep(body):
        return False
    try:
        _bodies.decode(b"[" + body + b"]")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def value_at(document: Any, path: str) -> Any:
    """The value at a dotted path, ``MISSING`` or ``BLOCKED``."""
    here = document
    for name in path.split("."):
        if not isinstance(here, dict):
            return BLOCKED
        if name not in here:
            return MISSING
        here = here[name]
    return here


def same_json(one: Any, other: Any) -> bool:
    """Equality of JSON values: 1 equals 1.0, true does not equal 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)


def apply_patch(body: bytes, changed: Mapping[str, Raw], unset: Iterable[str]) -> bytes:
    """``body`` with the paths of ``unset`` removed and those of ``changed`` set.

    Objects are made where a path goes through nothing or through something else.
    """
    root: dict[str, Any] = _levels.decode(body)
    for path in unset:
        names = path.split(".")
        level: dict[str, Any] | None = root
        for name in names[:-1]:
            level = None if level is None else _open(level, name, make=False)
        if level is not None:
            level.pop(names[-1], None)
    for path, value in changed.items():
        names = path.split(".")
        at = root
        for name in names[:-1]:
            deeper = _open(at, name, make=True)
            assert deeper is not None
            at = deeper
        at[names[-1]] = value
    return msgspec.json.encode(root)


def _open(level: dict[str, Any], name: str, *, make: bool) -> dict[str, Any] | None:
    """The object at ``name``, decoded one level deep and put back as such."""
    value = level.get(name)
    if isinstance(value, dict):
        return value
    if isinstance(value, Raw) and bytes(memoryview(value)[:1]) == b"{":
        opened: dict[str, Any] = _levels.decode(value)
        level[name] = opened
        return opened
    if make:
        level[name] = {}
        made: dict[str, Any] = level[name]
        return made
    return None
