"""Making the tables of a file follow the declarations: create them, drop indexes, begin new ones.

Everything here runs inside one write transaction of the store, so a declaration is followed as a
whole or not at all. Indexes of a small collection are built in it, those of a large one are only
begun (``sqlite_build.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from homeport.core.codec import Table
from homeport.core.declared import declare
from homeport.core.indexes import Index
from homeport.core.words import TOKENIZER
from homeport.errors import Corrupted, SchemaMismatch
from homeport.storage import sql, sqlite_build, sqlite_textbuild
from homeport.storage.sql import quote
from homeport.storage.sql_layout import Layout, Spec, first_layout

if TYPE_CHECKING:
    from homeport.storage.sqlite_session import SQLiteSession

CHUNK = 1_000
DECLARED = "declared."

SMALL_ROWS = 2_000
"""Indexes over so few documents are built at once: about 20 ms."""

Execute = Callable[..., Any]
"""``cursor.execute`` of the one kept cursor; every result is read to its end."""


class Stored(msgspec.Struct):
    """What the file says about one collection."""

    key: str
    layout: Layout
    fingerprints: list[str]


def read_stored(execute: Execute) -> dict[str, Stored]:
    """Lower-cased collection name → its record; names in a file never differ by case alone.

    Raises ``Corrupted`` for a record that cannot be read.
    """
    rows = execute("SELECT name, key, layout, fingerprints FROM collections").fetchall()
    try:
        return {
            name.lower(): Stored(
                key,
                msgspec.json.decode(layout, type=Layout),
                msgspec.json.decode(fingerprints, type=list[str]),
            )
            for name, key, layout, fingerprints in rows
        }
    except (AttributeError, TypeError, msgspec.MsgspecError) as error:
        raise Corrupted("The file's record of its collections is damaged.") from error


def fits(table: Table[Any], stored: Stored | None) -> bool:
    """Does the file follow the declaration already, with every index complete and proved?"""
    if stored is None or stored.key != table.collection.key:
        return False
    layout = stored.layout
    return (
        not any(_changes(table, layout))
        and (layout.packed or table.collection.compression == "none")
        and not any(name in layout.building for name in _names(table))
        and not (layout.next_text and not sqlite_textbuild.unread(layout))
        and (bool(layout.building) or not (layout.old_texts or layout.old_sides))
        and not any(name in layout.unproved for name in _names(table))
        and table.codec.fingerprint in stored.fingerprints
    )


def read_declared(execute: Execute) -> dict[str, str]:
    """Collection name → its declaration, as text."""
    rows = execute(
        "SELECT name, value FROM meta WHERE name>=? AND name<?", (DECLARED, DECLARED[:-1] + "/")
    ).fetchall()
    return {name.removeprefix(DECLARED): text for name, text in rows}


def keep_declared(session: SQLiteSession, tables: Sequence[Table[Any]]) -> None:
    """Keep the declarations in the file, for tools that have it alone."""
    kept = read_declared(session.execute)
    wanted = {t.name: declare(t.collection) for t in tables if not t.system}
    late = {name: text for name, text in wanted.items() if kept.get(name) != text}
    if not late:
        return

    def write() -> None:
        for name, text in late.items():
            session.execute(sql.SET_META, (DECLARED + name, text)).fetchall()

    session.within(write)


def check(table: Table[Any], stored: Stored | None) -> None:
    """Refuse a declaration that the documents of the file contradict."""
    if stored is not None and stored.key != table.collection.key:
        raise SchemaMismatch(
            f"The documents of {table.name} have their key in {stored.key!r}, the declaration says "
            f"{table.collection.key!r}.",
            collection=table.name,
        )


def _names(table: Table[Any]) -> list[str]:
    return [index.name for index in table.collection.indexes]


def _changes(table: Table[Any], layout: Layout) -> tuple[list[str], list[Index], list[Index], bool]:
    """(indexes to drop, to begin, to record anew, are words of another version to be replaced)"""
    declared = {index.name: index for index in table.collection.indexes}
    drops = [
        name
        for name, spec in layout.specs.items()
        if (name not in declared and not spec.created)
        or (name in declared and spec.shape != Spec.of(declared[name]).shape)
    ]
    adds = [one for name, one in declared.items() if name not in layout.specs or name in drops]
    records = [
        one
        for name, one in declared.items()
        if one not in adds
        and (
            layout.specs[name].unique != one.unique
            or layout.specs[name].created
            or layout.specs[name].kind != one.kind
        )
    ]
    known = layout.words if layout.next_text is None else layout.next_text.words
    return drops, adds, records, bool(layout.text or layout.next_text) and known != TOKENIZER


class Follower:
    """Brings tables of one file to their declarations, inside the caller's transaction."""

    def __init__(self, execute: Execute, executemany: Execute) -> None:
        self.execute = execute
        self.executemany = executemany

    def follow(self, table: Table[Any], stored: Stored | None) -> None:
        if stored is None:
            self._create(table)
            return
        layout = stored.layout
        if table.collection.compression != "none" and not layout.packed:
            self._pack(table, layout)
        drops, adds, records, stale = _changes(table, layout)
        leaving = [name for name in drops if layout.specs[name].kind == "fulltext"]
        for name in drops:
            if name not in leaving:
                sqlite_build.drop(self.execute, table.name, layout, name)
        for index in [*adds, *records]:
            # Unique from the moment that it is complete, if its documents prove to be.
            layout.specs[index.name] = Spec.of(index)
            if index.unique and index.name not in layout.unproved:
                layout.unproved.append(index.name)
            elif not index.unique and index.name in layout.unproved:
                layout.unproved.remove(index.name)
        begun = [index for index in adds if index.kind != "fulltext"]
        if begun:
            sqlite_build.announce(self.execute, table.name, layout, begun)
        texts = [index.name for index in adds if index.kind == "fulltext"]
        if texts or leaving or stale:
            sqlite_textbuild.change(self.execute, table.name, layout, texts, leaving)
        if layout.unfinished and self._rows(table) <= SMALL_ROWS:
            self._build(table, layout)
        fingerprints = list(dict.fromkeys([*stored.fingerprints, table.codec.fingerprint]))
        self._record(table, layout, fingerprints)

    def _rows(self, table: Table[Any]) -> int:
        """Documents at most."""
        ident = quote(sql.table_ident(table.name))
        highest: int = self.execute(f"SELECT coalesce(max(seq), 0) FROM {ident}").get
        return highest

    def _create(self, table: Table[Any]) -> None:
        layout = first_layout(table, TOKENIZER)
        ident = sql.table_ident(table.name)
        if layout.packed:
            self.execute(sql.SET_FORMAT).fetchall()
        self.execute(sql.create_table(ident, layout)).fetchall()
        for name, columns, sparse in layout.indexes.values():
            self.execute(sql.create_index(ident, name, columns, sparse=sparse)).fetchall()
        for side, _ in layout.multi.values():
            self.execute(sql.create_multi(side)).fetchall()
        if layout.text:
            self._create_text(table, layout)
        self._record(table, layout, [table.codec.fingerprint])

    def _pack(self, table: Table[Any], layout: Layout) -> None:
        # A version of Homeport that does not know the column must not open the file any more.
        for statement in (sql.SET_FORMAT, *sql.pack_documents(table.name)):
            self.execute(statement).fetchall()
        layout.packed = True

    def _record(self, table: Table[Any], layout: Layout, fingerprints: list[str]) -> None:
        if table.collection.expiring:
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

    def _build(self, table: Table[Any], layout: Layout) -> None:
        """All that is begun, at once."""
        execute, name = self.execute, table.name
        if layout.next_text is not None:
            self._fill_text(name, layout)
        if layout.building:
            filler = sqlite_build.Filler(execute, self.executemany, name, layout)
            while filler.step(CHUNK)[1] == CHUNK:
                pass
            sqlite_build.finish(execute, name, layout)
        while layout.old_texts:
            sqlite_textbuild.sweep(execute, name, layout, CHUNK)
        while layout.old_sides:
            sqlite_build.sweep(execute, layout, CHUNK)

    def _fill_text(self, collection: str, layout: Layout) -> None:
        filler = sqlite_textbuild.TextFiller(self.execute, self.executemany, collection, layout)
        position = filler.position()
        while not position.filled:
            filler.step(position, CHUNK)
        sqlite_textbuild.finish(self.execute, collection, layout)

    def _create_text(self, table: Table[Any], layout: Layout) -> None:
        ident = sql.text_ident(table.name, layout.text_name)
        self.execute(sql.create_text(ident, layout.text)).fetchall()
        self.execute(sql.create_vocabulary(table.name, layout.text_name)).fetchall()


def store_layout(execute: Execute, collection: str, layout: Layout) -> None:
    execute(
        "UPDATE collections SET layout=? WHERE name=?",
        (msgspec.json.encode(layout).decode(), collection),
    ).fetchall()


def next_epoch(execute: Execute) -> None:
    """Let every other connection notice at its next write or query."""
    epoch = int(execute(sql.GET_META, ("epoch",)).get or 0)
    execute(sql.SET_META, ("epoch", str(epoch + 1))).fetchall()
