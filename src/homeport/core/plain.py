"""Plain JSON values: what a document may hold, and the one text form of a point in time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

import msgspec

from homeport.core.arguments import shown
from homeport.core.keys import MAX_SAFE_INT
from homeport.errors import InvalidDocument

MAX_DEPTH: Final = 200
"""Objects and arrays inside each other; parsers of other languages stop soon after."""

_NUMBERS = frozenset((int, float))
_TEXTS: Final = frozenset((str,))
_SCALARS = frozenset((str, int, float, bool, type(None)))
_SURROGATE = re.compile("[\ud800-\udfff]")


MAX_KNOWN_NAMES: Final = 1_000


def all_json(document: dict[str, Any], known: set[str], depth: int) -> bool:
    """Is every value one of JSON's, and every name a text without a dot? The fast half of
    ``refuse``: it says no when in doubt, and leaves NUL and surrogates to a look at the text.

    known: names that were examined before; documents of a collection share them, and comparing two
    sets costs a fraction of looking at each name.
    """
    if not known.issuperset(document) and not _good_names(document, known):
        return False
    for value in document.values():
        kind = type(value)
        if kind is str:
            continue
        if kind is float:
            if value - value == 0:  # neither infinite nor NaN
                continue
        elif kind is int:
            if -MAX_SAFE_INT <= value <= MAX_SAFE_INT:
                continue
        elif (
            kind is bool
            or value is None
            or (kind is dict and depth < MAX_DEPTH and all_json(value, known, depth + 1))
            or (
                kind is list
                and depth < MAX_DEPTH
                and (_TEXTS.issuperset(map(type, value)) or _all_json_list(value, known, depth + 1))
            )
        ):
            continue
        return False
    return True


def _all_json_list(values: list[Any], known: set[str], depth: int) -> bool:
    """Long lists of one type are proved without a step for each element."""
    kinds = set(map(type, values))
    if kinds <= {str}:
        return True
    if kinds == {float}:
        return isfinite(sum(values))  # one NaN or infinity stays in the sum
    if kinds == {int}:
        return bool(min(values) >= -MAX_SAFE_INT and max(values) <= MAX_SAFE_INT)
    if kinds == {dict}:
        return depth < MAX_DEPTH and all(all_json(item, known, depth + 1) for item in values)
    if kinds <= _SCALARS:
        return all(_json_number(item) for item in values if type(item) in _NUMBERS)
    return kinds <= _SCALARS | {list, dict} and all(
        _json_item(item, known, depth) for item in values
    )


def _json_item(item: Any, known: set[str], depth: int) -> bool:
    kind = type(item)
    if kind in _NUMBERS:
        return _json_number(item)
    if kind is dict:
        return depth < MAX_DEPTH and all_json(item, known, depth + 1)
    return kind is not list or (depth < MAX_DEPTH and _all_json_list(item, known, depth + 1))


def _json_number(value: float) -> bool:
    if type(value) is float:
        return isfinite(value)
    return -MAX_SAFE_INT <= value <= MAX_SAFE_INT


def _good_names(document: dict[str, Any], known: set[str]) -> bool:
    for name in document:
        if type(name) is not str or not name or "." in name:
            return False
        if len(known) < MAX_KNOWN_NAMES:
            known.add(name)
    return True


def refuse(value: object, path: str = "") -> None:
    """Raise ``InvalidDocument`` naming the path if any value inside is none of JSON's or would not
    come back as it is. Exact and slow: the fast path calls it when a document looks suspicious."""
    for where, reason in _faults(value, path, 0):
        raise InvalidDocument(f"{where or 'The document'} {reason}", path=where)


def _faults(value: object, path: str, depth: int) -> Iterator[tuple[str, str]]:
    kind = type(value)
    if kind is str:
        yield from _text_faults(value, path)  # type: ignore[arg-type]
    elif kind is bool or value is None:
        return
    elif kind is int:
        if not -MAX_SAFE_INT <= value <= MAX_SAFE_INT:  # type: ignore[operator]
            reason = "integers beyond ±2**53 lose digits in JavaScript and JSON."
            yield path, f"is {shown(value, 30)}: {reason}"
    elif kind is float:
        if not isfinite(value):  # type: ignore[arg-type]
            yield path, f"is {value}, which JSON cannot hold."
    elif depth >= MAX_DEPTH:
        yield path[:60] + "...", f"is nested more than {MAX_DEPTH} deep."
    elif kind is dict:
        for name, item in value.items():  # type: ignore[attr-defined]
            yield from _name_faults(name, path)
            yield from _faults(item, f"{path}.{name}" if path else name, depth + 1)
    elif kind is list:
        for position, item in enumerate(value):  # type: ignore[arg-type]
            yield from _faults(item, f"{path}[{position}]", depth + 1)
    else:
        yield (
            path,
            f"is a {kind.__name__}, which JSON has no type for: it would not come back as it is.",
        )


def _text_faults(text: str, path: str) -> Iterator[tuple[str, str]]:
    if "\x00" in text:
        yield path, "holds the character NUL, which PostgreSQL cannot store."
    if not text.isascii() and _SURROGATE.search(text):
        yield path, "holds a lone surrogate, which UTF-8 cannot carry."


def _name_faults(name: object, path: str) -> Iterator[tuple[str, str]]:
    if type(name) is not str:
        yield path, f"has the field name {name!r}: names are texts in JSON."
        return
    inside = f"{path}.{name}" if path else name
    if "." in name:
        yield inside, "has a dot in a field name; dots separate the names of a path."
    if not name:
        yield path, "has a field with an empty name."
    yield from _text_faults(name, inside)


def instant(value: datetime) -> str:
    """Fixed width, in UTC, so that the order of texts is the order of times. A time without a zone
    keeps none."""
    if value.tzinfo is None:
        return value.isoformat(timespec="microseconds")
    return value.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def read_instant(text: str) -> str:
    """A point in time in any ISO form → the stored form; other texts as they are."""
    try:
        return instant(msgspec.convert(text, datetime))
    except msgspec.ValidationError:
        return text


def builtins(value: object) -> Any:
    """Models, dates, enums … → dicts, lists, texts, numbers; times in the form of ``instant``."""
    return _instants(msgspec.to_builtins(value, builtin_types=(datetime,), str_keys=True))


def _instants(value: Any) -> Any:
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, dict):
        return {name: _instants(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_instants(item) for item in value]
    return value
