"""Making the tables of a file follow the declarations: create, rebuild, build and drop indexes.

Everything here runs inside one write transaction of the store, so a declaration is followed as a
whole or not at all. A change of the set of index columns rebuilds the table (``doc`` stays the
last column and no column is ever half filled); a process that still works with the old columns
then meets an error instead of missing documents.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from homeport.core.codec import Table
from homeport.core.words import indexed_form
from homeport.errors import SchemaMismatch
from homeport.storage import sql
from homeport.storage.sql import Layout, quote

CHUNK = 1_000

Execute = Callable[..., Any]
"""``cursor.execute`` of the one kept cursor; every result is read to its end."""


class Stored(msgspec.Struct):
    """What the file says about one collection."""

    key: str
    layout: Layout
    fingerprints: list[str]


def read_stored(execute: Execute) -> dict[str, Stored]:
    """Lower-cased collection name → its record; names in a file never differ by case alone."""
    rows = execute("SELECT name, key, layout, fingerprints FROM collections").fetchall()
    return {
        name.lower(): Stored(
            key,
            msgspec.json.decode(layout, type=Layout),
            msgspec.json.decode(fingerprints, type=list[str]),
        )
        for name, key, layout, fingerprints in rows
    }


def fits(table: Table[Any], stored: Stored | None) -> bool:
    """Does the file follow the declaration already?"""
    return (
        stored is not None
        and stored.key == table.collection.key
        and stored.layout == sql.wanted_layout(table, stored.layout)
        and table.codec.fingerprint in stored.fingerprints
    )


def check(table: Table[Any], stored: Stored | None) -> None:
    """Refuse a declaration that the documents of the file contradict."""
    if stored is not None and stored.key != table.collection.key:
        raise SchemaMismatch(
            f"The documents of {table.name} have their key in {stored.key!r}, the declaration says "
            f"{table.collection.key!r}.",
            collection=table.name,
        )


class Follower:
    """Brings tables of one file to their declarations, inside the caller's transaction."""

    def __init__(self, execute: Execute, executemany: Execute) -> None:
        self.execute = execute
        self.executemany = executemany

    def follow(self, table: Table[Any], stored: Stored | None) -> None:
        if stored is None:
            self._create(table)
            return
        old, new = stored.layout, sql.wanted_layout(table, stored.layout)
        before, after = set(old.indexes.values()), set(new.indexes.values())
        if set(old.columns) != set(new.columns):
            self._drop_indexes(before)
            self._rebuild(table, new)
            self._build_indexes(table, after)
        else:
            self._drop_indexes(before - after)
            self._build_indexes(table, after - before)
        for name in old.multi.keys() - new.multi.keys():
            self.execute(f"DROP TABLE {quote(old.multi[name][0])}").fetchall()
        self._fill_multi(table, new, new.multi.keys() - old.multi.keys())
        if (set(old.text), old.words) != (set(new.text), new.words):
            for ident in (sql.vocabulary_ident(table.name), sql.text_ident(table.name)):
                self.execute(f"DROP TABLE IF EXISTS {quote(ident)}").fetchall()
            self._fill_text(table, new)
        fingerprints = list(dict.fromkeys([*stored.fingerprints, table.codec.fingerprint]))
        self._record(table, new, fingerprints)

    def _create(self, table: Table[Any]) -> None:
        layout = sql.wanted_layout(table)
        self.execute(sql.create_table(sql.table_ident(table.name), layout)).fetchall()
        self._build_indexes(table, layout.indexes.values())
        for ident, _ in layout.multi.values():
            self.execute(sql.create_multi(ident)).fetchall()
        if layout.text:
            self._create_text(table, layout)
        self._record(table, layout, [table.codec.fingerprint])

    def _record(self, table: Table[Any], layout: Layout, fingerprints: list[str]) -> None:
        if table.collection.ttl_s is not None:
            self.execute(sql.create_expiry_index(table.name)).fetchall()
        self.execute(
            "INSERT INTO collections(name, key, layout, fingerprints) VALUES(?,?,?,?)"
            " ON CONFLICT(name) DO UPDATE SET layout=excluded.layout,"
            " fingerprints=excluded.fingerprints",
            (
                table.name,
                table.collection.key,
                msgspec.json.encode(layout).decode(),
                msgspec.json.encode(fingerprints).decode(),
            ),
        ).fetchall()

    def _build_indexes(
        self, table: Table[Any], indexes: Iterable[tuple[str, tuple[str, ...], bool]]
    ) -> None:
        ident = sql.table_ident(table.name)
        for name, columns, sparse in indexes:
            self.execute(sql.create_index(ident, name, columns, sparse=sparse)).fetchall()

    def _drop_indexes(self, indexes: Iterable[tuple[str, tuple[str, ...], bool]]) -> None:
        for name, _, _ in indexes:
            self.execute(f"DROP INDEX IF EXISTS {quote(name)}").fetchall()

    def _rebuild(self, table: Table[Any], layout: Layout) -> None:
        ident = sql.table_ident(table.name)
        spare = f"{ident}.new"
        self.execute(sql.create_table(spare, layout)).fetchall()
        fixed = ("seq", "id", "rev", "created", "modified", "expires", "tok", "bkt")
        columns = [quote(layout.columns[path]) for path in table.codec.columns]
        names = ", ".join((*fixed, "doc", *columns))
        marks = ", ".join("?" * (len(fixed) + 1 + len(columns)))
        insert = f"INSERT INTO {quote(spare)}({names}) VALUES({marks})"
        for rows in self._chunks(ident, (*fixed, "doc")):
            self.executemany(insert, [(*row, *_columns(table, row[-1])) for row in rows])
        self.execute(f"DROP TABLE {quote(ident)}").fetchall()
        self.execute(f"ALTER TABLE {quote(spare)} RENAME TO {quote(ident)}").fetchall()

    def _fill_multi(self, table: Table[Any], layout: Layout, names: Collection[str]) -> None:
        wanted = [(n, i.name) for n, i in enumerate(table.codec.multi) if i.name in names]
        for _, name in wanted:
            self.execute(sql.create_multi(layout.multi[name][0])).fetchall()
        if not wanted:
            return
        for rows in self._chunks(sql.table_ident(table.name), ("seq", "doc")):
            found = [(seq, table.codec.extras_of_text(doc)[0]) for seq, doc in rows]
            for number, name in wanted:
                pairs = [(k, seq) for seq, entries in found for k in entries[number]]
                side = quote(layout.multi[name][0])
                self.executemany(f"INSERT OR IGNORE INTO {side}(k, seq) VALUES(?,?)", pairs)

    def _create_text(self, table: Table[Any], layout: Layout) -> None:
        self.execute(sql.create_text(table.name, layout)).fetchall()
        self.execute(sql.create_vocabulary(table.name)).fetchall()

    def _fill_text(self, table: Table[Any], layout: Layout) -> None:
        if not layout.text:
            return
        self._create_text(table, layout)
        statements = sql.Statements(table, layout)
        for rows in self._chunks(sql.table_ident(table.name), ("seq", "doc")):
            self.executemany(
                statements.text_add,
                [
                    (*map(indexed_form, table.codec.extras_of_text(doc)[1]), seq)
                    for seq, doc in rows
                ],
            )
        text = statements.text
        self.execute(f"INSERT INTO {text}({text}) VALUES('optimize')").fetchall()

    def _chunks(self, ident: str, names: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
        """All rows in order of seq, the cursor free between two chunks. names[0] is seq."""
        columns, last = ", ".join(names), -1
        select = f"SELECT {columns} FROM {quote(ident)} WHERE seq>? ORDER BY seq LIMIT {CHUNK}"
        while rows := self.execute(select, (last,)).fetchall():
            yield rows
            last = rows[-1][0]


def _columns(table: Table[Any], text: str) -> Sequence[Any]:
    return table.codec.row_of_text(text)[2:] if table.codec.columns else ()
