"""Keys that are made inside the transaction of the write: IndexedDB's key generator, and functions.

The generator of a collection has a current number, kept as a named value of the file. A document
without a key gets it, and it grows by one; a document with a number as its key lifts it to the next
whole number. It never goes back, but a transaction that is rolled back never happened. Beyond 2**53
numbers are not exact any more, so there it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor
from typing import TYPE_CHECKING, Any, TypeVar

from homeport.core.keys import MAX_SAFE_INT, Encoded, encode_key
from homeport.core.keys import decode as decode_key
from homeport.core.models import decode_object
from homeport.core.query import EMPTY, Compare
from homeport.core.requests import Find, GetMany, Meta, Plan, SetMeta
from homeport.errors import HomeportError, KeyExists, KeysExhausted

if TYPE_CHECKING:
    from homeport.core.codec import Extras, Row, Table

T = TypeVar("T")

META_NUMBER = "numbers."
ATTEMPTS = 8
"""A function that gives a key that is taken is asked so often."""


class Keyed:
    """Rows that all have keys. places: position of each among the rows that were given."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.extras: list[Extras] | None = None
        self.places: list[int] = []
        self.failures: dict[int, HomeportError] = {}
        self.meta: SetMeta | None = None


def keyed(table: Table[Any], rows: Sequence[Row], extras: Sequence[Extras] | None) -> Plan[Keyed]:
    """Give keys to the rows that have none. The first step of a write."""
    made = Keyed()
    generator = table.collection.key_generator
    if callable(generator):
        keys = yield from _called(table, rows, generator, made.failures)
    else:
        keys, made.meta = yield from _numbered(table, rows, made.failures)
    made.extras = None if extras is None else []
    for n, row in enumerate(rows):
        if n in made.failures:
            continue
        extra = None if extras is None else extras[n]
        if row[0] is None:
            try:
                row, extra = _with_key(table, row, keys[n])  # noqa: PLW2901
            except HomeportError as error:
                made.failures[n] = error
                continue
        made.rows.append(row)
        made.places.append(n)
        if made.extras is not None:
            made.extras.append(extra)  # type: ignore[arg-type]
    return made


def _with_key(table: Table[Any], row: Row, key: Encoded) -> tuple[Row, Extras | None]:
    codec = table.codec
    plain = decode_object(row[1])
    public = decode_key(key)
    plain = {**plain, codec.key: public} if codec.key in plain else {codec.key: public, **plain}
    made = codec.row_of_plain(plain)
    return made, codec.extras_of_text(made[1]) if codec.has_extras else None


def _numbered(
    table: Table[Any], rows: Sequence[Row], failures: dict[int, HomeportError]
) -> Plan[tuple[dict[int, Encoded], SetMeta | None]]:
    name = META_NUMBER + table.name
    text = yield Meta(name)
    # The first use, on a collection that may have documents already.
    start = (yield from _behind(table)) if text is None else int(text)
    keys, current = _count(rows, start)
    if keys:
        # A process with another declaration may have stored numbers that were not counted here.
        texts = yield GetMany(table, [key for key in keys.values() if key <= MAX_SAFE_INT])
        if any(text is not None for text in texts):
            keys, current = _count(rows, max(start, (yield from _behind(table))))
    for n in [n for n, key in keys.items() if key > MAX_SAFE_INT]:
        failures[n] = KeysExhausted(
            f"The key generator of {table.name} has reached 2**53.", collection=table.name
        )
    found: dict[int, Encoded] = {**keys}
    changed = current != start or text is None
    return found, SetMeta(name, str(current)) if changed else None


def _count(rows: Sequence[Row], current: int) -> tuple[dict[int, int], int]:
    """The numbers of the rows without a key, in the order of the rows, and the one after them."""
    keys: dict[int, int] = {}
    for n, row in enumerate(rows):
        key = row[0]
        if key is None:
            keys[n] = current
            current = min(current, MAX_SAFE_INT) + 1
        elif isinstance(key, (int, float)) and key >= current:
            current = min(floor(key), MAX_SAFE_INT) + 1
    return keys, current


def _behind(table: Table[Any]) -> Plan[int]:
    """The first number behind all that are keys."""
    key = table.codec.key
    query = EMPTY.and_where(Compare(key, "<=", MAX_SAFE_INT)).with_order(f"-{key}").with_limit(1)
    found = yield Find(table, query, "keys")
    return max(floor(found[0]) + 1, 1) if found else 1


def _called(
    table: Table[Any],
    rows: Sequence[Row],
    generator: Callable[[], Any],
    failures: dict[int, HomeportError],
) -> Plan[dict[int, Encoded]]:
    """Keys of a function, none of them in use: a document is never written over by accident."""
    keys: dict[int, Encoded] = {}
    used = {row[0] for row in rows}
    wanted = [n for n, row in enumerate(rows) if row[0] is None]
    for _ in range(ATTEMPTS):
        for n in wanted:
            try:
                keys[n] = encode_key(generator())
            except HomeportError as error:
                failures[n] = error
        wanted = [n for n in wanted if n not in failures]
        texts: list[str | None] = []
        if wanted:
            texts = yield GetMany(table, [decode_key(keys[n]) for n in wanted])
        taken = []
        for n, text in zip(wanted, texts, strict=True):
            if text is not None or keys[n] in used:
                taken.append(n)
            else:
                used.add(keys[n])
        wanted = taken
        if not wanted:
            break
    for n in wanted:
        key = decode_key(keys[n])
        failures[n] = KeyExists(
            f"The key generator of {table.name} gave {ATTEMPTS} keys in a row that are taken, the "
            f"last one {key!r}.",
            action="It must return a new key at each call.",
            collection=table.name,
            key=key,
        )
    return keys
