"""Making a file follow its declarations: tables, indexes built on what is there, indexes dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from homeport.errors import SchemaMismatch
from homeport.storage import sql
from homeport.storage.sql import Layout, Statements, quote
from homeport.storage.sqlite_write import folded

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.storage.sqlite import SQLiteStore
    from homeport.storage.sqlite_session import SQLiteSession

PAGE = 1000  # rows read at a time while an index is built


def stored_layout(session: SQLiteSession, name: str) -> Layout | None:
    row = _stored(session, name)
    return None if row is None else msgspec.json.decode(row[1], type=Layout)


def _stored(session: SQLiteSession, name: str) -> tuple[str, str, str] | None:
    row: tuple[str, str, str] | None = session.execute(
        "SELECT key, layout, fingerprints FROM collections WHERE name=?", (name,)
    ).get
    return row


def define_tables(store: SQLiteStore, session: SQLiteSession, tables: Sequence[Table[Any]]) -> None:
    # Looked at without the lock first: opening a file that needs nothing writes nothing.
    if not store.readonly and any(_differs(session, table) for table in tables):
        session.execute("BEGIN IMMEDIATE")
        try:
            changed = [_follow(store, session, table) for table in tables]
            if any(changed):
                epoch = int(session.execute(sql.GET_META, ("epoch",)).get) + 1
                session.set_meta("epoch", str(epoch))
            session.execute("COMMIT")
        except BaseException:
            session.rollback()
            raise
    for table in tables:
        row = _stored(session, table.name)
        if row is None:  # readonly, and the file has no such collection
            raise SchemaMismatch(
                f"{store.path} has no collection {table.name!r}, and readonly=True creates nothing.",
                action="Leave it out of collections=, or open the file for writing once.",
            )
        _check_key(store, table, row[0])
        store.tables[table.name] = table
        layout = msgspec.json.decode(row[1], type=Layout)
        if store.readonly and layout != sql.wanted_layout(table, layout):
            raise SchemaMismatch(
                f"The indexes of {table.name!r} in {store.path} differ from the declaration.",
                action="Open it for writing once, so that they are built.",
            )
        store.statements[table.name] = Statements(table, layout)
        # Several models have written here: a write through one must keep the others' fields.
        table.keep_unknown = len(msgspec.json.decode(row[2], type=list[str])) > 1
    store.load_flags(session)
    store.epoch = session.execute(sql.GET_META, ("epoch",)).get


def _check_key(store: SQLiteStore, table: Table[Any], key: str) -> None:
    if key != table.codec.key:
        raise SchemaMismatch(
            f"The documents of {table.name!r} in {store.path} have their key in {key!r}; "
            f"the declaration says {table.codec.key!r}."
        )


def _differs(session: SQLiteSession, table: Table[Any]) -> bool:
    row = _stored(session, table.name)
    if row is None or row[0] != table.codec.key:
        return True
    layout = msgspec.json.decode(row[1], type=Layout)
    known = msgspec.json.decode(row[2], type=list[str])
    return layout != sql.wanted_layout(table, layout) or table.codec.fingerprint not in known


def _follow(store: SQLiteStore, session: SQLiteSession, table: Table[Any]) -> bool:
    """→ has anything changed that other processes must know?"""
    execute = session.execute
    row = _stored(session, table.name)
    if row is None:
        layout = sql.wanted_layout(table)
        ident = sql.table_ident(table.name)
        execute(sql.create_table(ident, layout))
        for name, columns, sparse in layout.indexes.values():
            execute(sql.create_index(ident, name, columns, sparse=sparse))
        for side, _ in layout.multi.values():
            execute(sql.create_multi(side))
        if layout.text:
            execute(sql.create_text(table.name, layout))
        if table.collection.ttl_s is not None:
            execute(sql.create_expiry_index(table.name))
        execute(
            "INSERT INTO collections(name, key, layout, fingerprints) VALUES(?,?,?,?)",
            (table.name, table.codec.key, _text(layout), _text([table.codec.fingerprint])),
        )
        return True
    _check_key(store, table, row[0])
    old = msgspec.json.decode(row[1], type=Layout)
    new = sql.wanted_layout(table, old)
    known = msgspec.json.decode(row[2], type=list[str])
    fingerprint = table.codec.fingerprint
    if table.collection.ttl_s is not None:
        execute(sql.create_expiry_index(table.name))
    if new != old:
        _change(session, table, old, new)
    if new != old or fingerprint not in known:
        execute(
            "UPDATE collections SET layout=?, fingerprints=? WHERE name=?",
            (_text(new), _text(list(dict.fromkeys([*known, fingerprint]))), table.name),
        )
    return new != old


def _change(session: SQLiteSession, table: Table[Any], old: Layout, new: Layout) -> None:
    execute = session.execute
    ident = sql.table_ident(table.name)
    for name, index in old.indexes.items():
        if new.indexes.get(name) != index:
            execute(f"DROP INDEX {quote(index[0])}")
    for path, column in old.columns.items():
        if path not in new.columns:
            execute(f"ALTER TABLE {quote(ident)} DROP COLUMN {quote(column)}")
    for name, multi in old.multi.items():
        if new.multi.get(name) != multi:
            execute(f"DROP TABLE {quote(multi[0])}")
    added = {path: column for path, column in new.columns.items() if path not in old.columns}
    for column in added.values():
        execute(f"ALTER TABLE {quote(ident)} ADD COLUMN {quote(column)}")
    sides = [
        n for n, i in enumerate(table.codec.multi) if old.multi.get(i.name) != new.multi[i.name]
    ]
    for n in sides:
        execute(sql.create_multi(new.multi[table.codec.multi[n].name][0]))
    text = new.text != old.text
    if text:
        execute(f"DROP TABLE IF EXISTS {quote(sql.text_ident(table.name))}")
        if new.text:
            execute(sql.create_text(table.name, new))
    if added:
        _fill_columns(session, table, added)
    if sides or (text and new.text):
        _fill_sides(session, table, Statements(table, new), sides, text=bool(text and new.text))
    for name, (index_ident, columns, sparse) in new.indexes.items():
        if old.indexes.get(name) != new.indexes[name]:
            execute(sql.create_index(ident, index_ident, columns, sparse=sparse))


def _rows(session: SQLiteSession, table: Table[Any]) -> Iterator[list[tuple[int, str]]]:
    last = -1
    text = f"SELECT seq, doc FROM {quote(sql.table_ident(table.name))} WHERE seq>? ORDER BY seq LIMIT {PAGE}"
    while rows := session.execute(text, (last,)).fetchall():
        yield rows
        last = rows[-1][0]


def _fill_columns(session: SQLiteSession, table: Table[Any], added: dict[str, str]) -> None:
    places = [2 + table.codec.columns.index(path) for path in added]
    sets = ", ".join(f"{quote(column)}=?" for column in added.values())
    text = f"UPDATE {quote(sql.table_ident(table.name))} SET {sets} WHERE seq=?"
    for page in _rows(session, table):
        made = ((table.codec.row_of_text(doc), seq) for seq, doc in page)
        session.cursor.executemany(
            text, [(*[row[place] for place in places], seq) for row, seq in made]
        )


def _fill_sides(
    session: SQLiteSession, table: Table[Any], st: Statements, sides: list[int], *, text: bool
) -> None:
    for page in _rows(session, table):
        entries: list[list[tuple[Any, int]]] = [[] for _ in st.multi]
        texts: list[tuple[Any, ...]] = []
        for seq, doc in page:
            multi, words = table.codec.extras_of_text(doc)
            for n in sides:
                entries[n] += [(k, seq) for k in multi[n]]
            if text:
                texts.append((*folded(words), seq))
        for n in sides:
            session.cursor.executemany(st.multi_add[n], entries[n])
        if text:
            session.cursor.executemany(st.text_add, texts)
    if text:
        session.execute(f"INSERT INTO {st.text}({st.text}) VALUES('optimize')")


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
