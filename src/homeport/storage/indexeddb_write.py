"""The write of rows as one step: read what was there, store, log, commit, with no call of Python in
between.

What the tables know of the database (is it synced?) may have become wrong in another tab. It is
compared in the transaction, and when it has, nothing is done and the long way is taken.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from homeport.core.keys import Encoded, decode
from homeport.core.requests import PartResult
from homeport.storage.indexeddb_cache import NO_ROW
from homeport.storage.indexeddb_schema import FLAGS
from homeport.storage.indexeddb_wire import ask, wire_row

if TYPE_CHECKING:
    from homeport.core.codec import Extras, Row, Table
    from homeport.storage.indexeddb import IndexedDBStore

CHANGES_KEPT = 10_000
CHANGES_PRUNE_EVERY = 500
CHANGE_KEYS_MAX = 5_000

Written: TypeAlias = Generator[str, str, PartResult | None]

_encode = msgspec.json.Encoder().encode


def several() -> Written:
    """It has to be done in several steps."""
    return None
    yield


def write_at_once(
    store: IndexedDBStore, table: Table[Any], rows: Sequence[Row], extras: Sequence[Extras] | None
) -> Written:
    """None: something has to be decided between reading and writing, or there is news for the
    tables."""
    if not rows or len(rows) > CHANGE_KEYS_MAX or not _plain(table):
        return None
    changed: dict[Encoded | None, Any] = {row[0]: decode(row[0]) for row in rows}
    body = {table.name: list(changed.values())}
    words = not store.sealed
    command = {
        "op": "store",
        "s": store.place(table),
        "stamp": store.next_stamp(0),
        "now": None,
        "expires": None,
        "tokens": None,
        "flags": list(zip(FLAGS, store.noticed, strict=True)),
        "logged": table.collection.track_changes,
        "every": CHANGES_PRUNE_EVERY,
        "kept": CHANGES_KEPT,
        "at": 1,
        "rows": [
            wire_row(row, None if extras is None else extras[n], words=words)
            for n, row in enumerate(rows)
        ],
    }
    texts = [row[1] for row in rows]
    texts.append(_encode(body).decode())
    (done,) = yield from ask(command, texts=texts)
    if done is None:
        return None
    store.next_stamp(done[1])
    store.logged = (done[0] + 1, body) if table.collection.track_changes else NO_ROW
    return PartResult([changed[row[0]] for row in rows])


def _plain(table: Table[Any]) -> bool:
    """Does nothing depend on what is stored: no capture for a server, no fields that a model does
    not know, no numbered keys, no values that another document may have, no end of a document?"""
    return not (
        table.synced
        or table.keep_unknown
        or table.keyed
        or table.collection.expiring
        or any(index.unique for index in table.codec.indexes)
    )
