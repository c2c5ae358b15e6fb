"""Building an index on a table in use, in short transactions.

SQLite's own CREATE INDEX keeps every writer out until it has read and sorted the whole table. Here
an index begins empty and right: as a partial index over the rows of a later *generation*, of which
there are none. From then on every write of every process gives its row that generation, so SQLite
keeps the row in the index; and chunk by chunk the rows of before are given it too, with the values
of new columns. When none is left the partial condition is true of all rows, and is taken out of the
declaration. At every commit the index holds exactly what its declaration says (``integrity_check``
proves it), and SQLite uses a partial index for no query that it does not fit.

The two steps that SQL has no words for, beginning empty and taking the condition out, are changes
of ``sqlite_schema`` in the way that SQLite documents (lang_altertable.html, "Making Other Kinds Of
Table Schema Changes"): what is on the disk is what the new declaration describes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from homeport.core.codec import plain_reader
from homeport.core.indexes import Index
from homeport.core.keys import encode
from homeport.core.models import decode_object
from homeport.core.rowbuilder import entries_of
from homeport.storage import sql
from homeport.storage.sql import quote
from homeport.storage.sql_layout import Building, Layout, free_ident, free_name

Execute = Callable[..., Any]

BUILT = "built"
"""The column with the generation under which a row was written."""

POSITION = "building."


class Position(msgspec.Struct):
    """How far a build has come; a named value of the file, written with each chunk.

    generation: that it brings the rows to. seq: the last row looked at. last: where the table ended
    when it began; rows beyond were written with the index. rows: documents taken so far.
    """

    generation: int
    seq: int
    last: int
    rows: int = 0


# -- beginning


def announce(execute: Execute, collection: str, layout: Layout, indexes: Iterable[Index]) -> None:
    """Begin to build these indexes, which ``layout.specs`` has already; inside a write
    transaction. ``layout`` is changed and has to be stored."""
    table = sql.table_ident(collection)
    if not layout.generation:
        execute(
            f"ALTER TABLE {quote(table)} ADD COLUMN {BUILT} INTEGER NOT NULL DEFAULT 0"
        ).fetchall()
    layout.generation += 1
    plain: list[tuple[str, str]] = []
    for index in indexes:
        ident = free_ident(collection, index, layout)
        if index.multi:
            # Never the name of an earlier one: a process that looks at it still would find a part.
            ident = f"{ident}~{layout.generation}"
            execute(sql.create_multi(ident)).fetchall()
            columns = index.fields
        else:
            columns = tuple(_column(execute, table, layout, path) for path in index.fields)
            plain.append((ident, _unfinished(table, ident, columns, index, layout.generation)))
        layout.building[index.name] = Building(ident, columns, layout.generation)
    _begin_empty(execute, table, layout, plain)
    last = execute(f"SELECT coalesce(max(seq), 0) FROM {quote(table)}").get
    store_position(execute, collection, Position(layout.generation, -1, last))


def _column(execute: Execute, table: str, layout: Layout, path: str) -> str:
    known = layout.physical.get(path)
    if known is not None:
        return known
    # As for side tables: a name of its own for each life of a column.
    name = free_name(f"k_{path}~{layout.generation}", layout.names_of_columns())
    if layout.left:
        old = layout.left.pop()
        execute(
            f"ALTER TABLE {quote(table)} RENAME COLUMN {quote(old)} TO {quote(name)}"
        ).fetchall()
    else:
        execute(f"ALTER TABLE {quote(table)} ADD COLUMN {quote(name)}").fetchall()
    layout.filling[path] = name
    return name


def _unfinished(
    table: str, ident: str, columns: Sequence[str], index: Index, generation: int
) -> str:
    whole = sql.create_index(table, ident, columns, sparse=index.sparse)
    return f"{whole} {'AND' if index.sparse else 'WHERE'} {BUILT}>={generation}"


def _begin_empty(
    execute: Execute, table: str, layout: Layout, plain: Sequence[tuple[str, str]]
) -> None:
    """Indexes of an empty table become those of the real one: they hold the rows of the generation,
    and there are none. CREATE INDEX would look at each row to find that out."""
    if not plain:
        return
    spare = free_name(f"{table}~new", [])
    columns = ", ".join(map(quote, [BUILT, *layout.physical.values()]))
    execute(f"CREATE TABLE {quote(spare)}(seq INTEGER PRIMARY KEY, {columns})").fetchall()
    for _, text in plain:
        execute(text.replace(f" ON {quote(table)}(", f" ON {quote(spare)}(", 1)).fetchall()
    edit(execute, [(table, text, ident) for ident, text in plain])
    execute(f"DROP TABLE {quote(spare)}").fetchall()


def edit(execute: Execute, indexes: Sequence[tuple[str, str, str]]) -> None:
    """Change the declarations of indexes: (table, text, name); inside a write transaction."""
    version = execute("PRAGMA schema_version").get
    execute("PRAGMA writable_schema=ON").fetchall()
    try:
        for entry in indexes:
            execute(
                "UPDATE sqlite_schema SET tbl_name=?, sql=? WHERE type='index' AND name=?", entry
            ).fetchall()
        # Every connection reads the schema anew, this one too.
        execute(f"PRAGMA schema_version={version + 1}").fetchall()
    finally:
        execute("PRAGMA writable_schema=RESET").fetchall()


# -- filling


class Filler:
    """Brings the rows of a collection to its newest generation."""

    def __init__(
        self, execute: Execute, executemany: Execute, collection: str, layout: Layout
    ) -> None:
        self.execute = execute
        self.executemany = executemany
        self.collection = collection
        self._table = table = quote(sql.table_ident(collection))
        self._read = [plain_reader(path) for path in layout.filling]
        self._sides: list[tuple[str, Callable[[Any], tuple[Any, ...]]]] = [
            (quote(one.ident), entries_of([plain_reader(p) for p in layout.specs[name].fields]))
            for name, one in layout.building.items()
            if layout.specs[name].multi
        ]
        generation = layout.generation
        changes = "".join(f"{quote(column)}=?, " for column in layout.filling.values())
        self._update = f"UPDATE {table} SET {changes}{BUILT}={generation} WHERE seq=?"
        self._select = (
            f"SELECT seq, doc FROM {table} WHERE seq>? AND {BUILT}<{generation}"
            " ORDER BY seq LIMIT ?"
        )
        self.generation = generation

    def step(self, limit: int) -> tuple[Position, int]:
        """Take up to so many rows; inside a write transaction → (position, rows taken). It is done
        when it takes fewer rows than it may."""
        position = read_position(self.execute, self.collection)
        if position is None or position.generation != self.generation:
            last = self.execute(f"SELECT coalesce(max(seq), 0) FROM {self._table}").get
            position = Position(self.generation, -1, last)
        rows = self.execute(self._select, (position.seq, limit)).fetchall()
        if rows:
            plain = [(decode_object(text), seq) for seq, text in rows]
            self.executemany(
                self._update,
                [(*[encode(read(doc)) for read in self._read], seq) for doc, seq in plain],
            )
            for side, entries in self._sides:
                pairs = [(entry, seq) for doc, seq in plain for entry in entries(doc)]
                self.executemany(f"INSERT OR IGNORE INTO {side}(k, seq) VALUES(?,?)", pairs)
            position.seq = rows[-1][0]
            position.rows += len(rows)
            store_position(self.execute, self.collection, position)
        return position, len(rows)


def read_position(execute: Execute, collection: str) -> Position | None:
    text = execute(sql.GET_META, (POSITION + collection,)).get
    return None if text is None else msgspec.json.decode(text, type=Position)


def store_position(execute: Execute, collection: str, position: Position) -> None:
    text = msgspec.json.encode(position).decode()
    execute(sql.SET_META, (POSITION + collection, text)).fetchall()


# -- ending


def finish(execute: Execute, collection: str, layout: Layout) -> None:
    """Every row is in: the indexes are complete; inside a write transaction. ``layout`` is changed
    and has to be stored."""
    table = sql.table_ident(collection)
    texts: list[tuple[str, str, str]] = []
    for name, one in layout.building.items():
        spec = layout.specs[name]
        if spec.multi:
            layout.multi[name] = (one.ident, spec.fields)
            continue
        layout.indexes[name] = (one.ident, one.columns, spec.sparse)
        texts.append(
            (table, sql.create_index(table, one.ident, one.columns, sparse=spec.sparse), one.ident)
        )
    if texts:
        edit(execute, texts)
    layout.columns.update(layout.filling)
    layout.filling = {}
    layout.building = {}
    execute(sql.DROP_META, (POSITION + collection,)).fetchall()


def drop(execute: Execute, collection: str, layout: Layout, name: str) -> None:
    """Take an index away, complete or not; inside a write transaction. ``layout`` is changed and
    has to be stored."""
    spec = layout.specs.pop(name, None)
    building = layout.building.pop(name, None)
    plain = layout.indexes.pop(name, None)
    side = layout.multi.pop(name, None)
    if building is not None:
        if spec is not None and spec.multi:
            _leave_side(execute, layout, building.ident)
        else:
            execute(f"DROP INDEX {quote(building.ident)}").fetchall()
    if plain is not None:
        # IF EXISTS: a bulk load may have left it away.
        execute(f"DROP INDEX IF EXISTS {quote(plain[0])}").fetchall()
    if side is not None:
        _leave_side(execute, layout, side[0])
    if not layout.building:
        execute(sql.DROP_META, (POSITION + collection,)).fetchall()
    _leave_columns(execute, collection, layout)


def _leave_side(execute: Execute, layout: Layout, ident: str) -> None:
    """A side table is emptied in steps, under another name: who has not noticed yet must meet an
    error, not a table with a part of its entries."""
    name = free_name(f"{ident}~left", layout.idents())
    execute(f"ALTER TABLE {quote(ident)} RENAME TO {quote(name)}").fetchall()
    layout.old_sides.append(name)


def sweep(execute: Execute, layout: Layout, limit: int) -> int:
    """Delete up to so many entries of a side table that nobody reads; inside a write transaction →
    how many. Fewer than that: it is gone from the file and from ``layout``, which has to be
    stored."""
    side = quote(layout.old_sides[0])
    execute(
        f"DELETE FROM {side} WHERE (k, seq) IN (SELECT k, seq FROM {side} LIMIT {limit})"
    ).fetchall()
    swept: int = execute("SELECT changes()").get
    if swept < limit:
        execute(f"DROP TABLE {side}").fetchall()
        del layout.old_sides[0]
    return swept


def _leave_columns(execute: Execute, collection: str, layout: Layout) -> None:
    """Columns that no index uses stay in the table, under another name: a process that does not
    know it yet meets an error instead of values that nobody keeps right any more."""
    table = sql.table_ident(collection)
    used = {column for _, columns, _ in layout.indexes.values() for column in columns}
    for name, one in layout.building.items():
        if not layout.specs[name].multi:
            used.update(one.columns)
    for columns in (layout.columns, layout.filling):
        for path, column in list(columns.items()):
            if column in used:
                continue
            del columns[path]
            name = free_name("left", layout.names_of_columns())
            execute(
                f"ALTER TABLE {quote(table)} RENAME COLUMN {quote(column)} TO {quote(name)}"
            ).fetchall()
            layout.left.append(name)


# -- uniqueness


def duplicates(
    execute: Execute, collection: str, layout: Layout, name: str, now_ms: int, *, at_most: int
) -> list[tuple[tuple[Any, ...], list[Any]]]:
    """(encoded values, encoded keys) that several documents hold in a complete index, the first
    ones in its order. Expired documents hold nothing."""
    table = quote(sql.table_ident(collection))
    alive = f"(t.expires IS NULL OR t.expires>{int(now_ms)})"
    if name in layout.multi:
        source = f"{quote(layout.multi[name][0])} m JOIN {table} t ON t.seq=m.seq"
        columns = ["m.k"]
    else:
        source = f"{table} t"
        columns = [f"t.{quote(column)}" for column in layout.indexes[name][1]]
    names = ", ".join(columns)
    there = " AND ".join(f"{column} IS NOT NULL" for column in columns)
    found = execute(
        f"SELECT {names} FROM {source} WHERE {there} AND {alive}"
        f" GROUP BY {names} HAVING count(*)>1 LIMIT ?",
        (at_most,),
    ).fetchall()
    same = " AND ".join(f"{column}=?" for column in columns)
    select = f"SELECT t.id FROM {source} WHERE {same} AND {alive} ORDER BY t.id LIMIT ?"
    return [
        (values, [key for (key,) in execute(select, (*values, at_most)).fetchall()])
        for values in found
    ]
