"""The place of a document in an order, read from its text as cheaply as it goes.

The same as ``evaluate.sort_key`` of the decoded document. Of the usual order, one field of the
document, only that field is decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from homeport.core.evaluate import Down, position_key, sort_key
from homeport.core.keys import Key, encode, order
from homeport.core.models import decode_object
from homeport.core.query import Order

_NOWHERE: Final = (1,)

Place: TypeAlias = Callable[[str, Key], tuple[Any, ...]]
"""Text and key of a document → its sort key."""


def compile_place(columns: Order) -> Place:
    """Made once for many documents. columns: (path, descending)."""
    if len(columns) != 1 or "." in columns[0][0]:
        return lambda text, key: sort_key(columns, decode_object(text), key)
    path, down = columns[0]
    if not path:
        return lambda _, key: position_key(columns, (key, key))
    field = msgspec.field(name=path, default=None)
    decode_field = msgspec.json.Decoder(msgspec.defstruct("Row", [("value", Any, field)])).decode

    # What position_key() does, without its loops: a change to a large result asks for the places
    # of some twenty rows.
    def place(text: str, key: Key) -> tuple[Any, ...]:
        row: Any = decode_field(text)
        value = encode(row.value)
        name = (0, order(encode(key)))
        return (_NOWHERE, name) if value is None else ((0, order(value)), name)

    def place_down(text: str, key: Key) -> tuple[Any, ...]:
        row: Any = decode_field(text)
        value = encode(row.value)
        name = (0, Down(order(encode(key))))
        return (_NOWHERE, name) if value is None else ((0, Down(order(value))), name)

    return place_down if down else place
