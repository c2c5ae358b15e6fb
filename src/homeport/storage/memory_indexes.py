"""Indexes of the store in memory, where only uniqueness makes a difference: every query looks at
every document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from homeport.core.codec import Codec
from homeport.core.indexing import Duplicates, refused
from homeport.core.indexstats import IndexStats
from homeport.core.keys import Encoded, decode, order
from homeport.core.uniqueness import Value, values_of
from homeport.errors import SchemaError

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.indexes import Index
    from homeport.storage.memory_session import StoredRow

Rows = dict[Encoded, "StoredRow"]


class MemoryIndexes:
    """What is declared and created, by collection."""

    def __init__(self) -> None:
        self._created: dict[str, list[Index]] = {}
        self._codecs: dict[str, Codec[Any]] = {}
        self._unproved: set[tuple[str, str]] = set()

    def codec(self, table: Table[Any]) -> Codec[Any]:
        """For rows and extras: of the declaration, or with the created indexes too."""
        return self._codecs.get(table.name, table.codec)

    def foreign(self, table: Table[Any]) -> bool:
        """Have rows of the declaration to be made again?"""
        return table.name in self._codecs

    def declare(self, table: Table[Any], known: Table[Any] | None, rows: Rows) -> None:
        """A collection is declared, for the first time or anew. Raises ``DuplicateValues``."""
        before = () if known is None else known.collection.indexes
        names = {index.name for index in table.collection.indexes}
        kept = [index for index in self._created.get(table.name, ()) if index.name not in names]
        self._created[table.name] = kept
        self._renew(table, rows)
        for index in table.collection.indexes:
            if index.unique and index not in before:
                found = self._duplicates(table, index, rows)
                if found and not table.synced:
                    raise refused(table.name, index, found)

    def create(self, table: Table[Any], index: Index, rows: Rows) -> None:
        known = {one.name: one for one in self.codec(table).indexes}.get(index.name)
        if known is not None:
            if (known.fields, known.multi) != (index.fields, index.multi):
                raise SchemaError(f"{table.name} has another index by the name of {index.name}.")
            return
        if index.unique:
            self._unproved.add((table.name, index.name))
        self._created.setdefault(table.name, []).append(index)
        self._renew(table, rows)

    def drop(self, table: Table[Any], name: str, rows: Rows) -> bool:
        there = [index for index in self._created.get(table.name, ()) if index.name == name]
        self._unproved.discard((table.name, name))
        self._created[table.name] = [
            index for index in self._created.get(table.name, ()) if index.name != name
        ]
        self._renew(table, rows)
        return bool(there)

    def enforce(self, table: Table[Any], name: str) -> bool:
        return (table.name, name) in self._unproved

    def duplicates(self, table: Table[Any], name: str, rows: Rows) -> Duplicates:
        index = next(one for one in self.codec(table).indexes if one.name == name)
        return self._duplicates(table, index, rows)

    def settle(self, table: Table[Any], name: str) -> None:
        self._unproved.discard((table.name, name))

    def stats(self, table: Table[Any], rows: Rows) -> list[IndexStats]:
        """What they would hold; no query reads them."""
        codec = self.codec(table)
        declared = {index.name for index in table.collection.indexes}
        found: list[IndexStats] = []
        for index in codec.indexes:
            entries, distinct = len(rows), None
            if index.kind != "fulltext":
                held = [tuple(map(order, value)) for _, value in self._values(table, index, rows)]
                entries, distinct = len(held), len(set(held))
            there = index.name in declared
            found.append(
                IndexStats(
                    table.name, index.name, index, there, True, None, entries, distinct, None, None
                )
            )
        return found

    def _values(
        self, table: Table[Any], index: Index, rows: Rows
    ) -> Iterator[tuple[Encoded, Value]]:
        codec = self.codec(table)
        for key, stored in rows.items():
            extras = None if stored.extras is None else [stored.extras]
            for value in values_of(codec, index, [stored.row], extras)[0]:
                yield key, value

    def _renew(self, table: Table[Any], rows: Rows) -> None:
        created = self._created.get(table.name, ())
        if created:
            indexes = (*table.collection.indexes, *created)
            self._codecs[table.name] = Codec(table.collection.with_indexes(indexes))
        else:
            self._codecs.pop(table.name, None)
        codec = table.usable = self.codec(table)
        for stored in rows.values():
            text = stored.row[1]
            stored.row = codec.row_of_text(text)
            stored.extras = codec.extras_of_text(text) if codec.has_extras else None

    def _duplicates(self, table: Table[Any], index: Index, rows: Rows) -> Duplicates:
        held: dict[Any, tuple[Value, list[Any]]] = {}
        for key, value in self._values(table, index, rows):
            held.setdefault(tuple(map(order, value)), (value, []))[1].append(decode(key))
        return [
            (tuple(decode(one) for one in value), sorted(keys, key=str))
            for _, (value, keys) in sorted(held.items(), key=lambda item: item[0])
            if len(keys) > 1
        ]
