"""SQL text of the SQLite store: names, DDL and the statements of one collection. No I/O.

The file is meant to be read with the SQLite shell too:

    c_wells                 one row per document; ``doc`` is its JSON text with the key in it; of a
                            collection with compression it is computed from ``packed``
    i_wells.field_depth_m   one index per declared index
    m_wells.tags_m          entries of a multi-entry index: (k, seq)
    f_wells.text            full text, FTS5, by seq; holds words already folded (core.words);
                            f_wells.text~2 is one that was built later
    v_wells.text            its vocabulary: word, documents, occurrences
    collections, meta, changes

A dot cannot occur in the name of a collection, so names of side tables never collide. Names are
stored beside the declaration because SQLite compares them without case, and paths do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from homeport.core.codec import Codec
from homeport.storage.sql_indexes import Hashed
from homeport.storage.sql_layout import Layout, file_indexes

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.schema import Index

APPLICATION_ID = 0x486D7074  # "Hmpt"
FORMAT = 2  # PRAGMA user_version; a higher one is FileTooNew
PLAIN_FORMAT = 1  # of a file that never had a collection with compressed documents
SET_FORMAT = f"PRAGMA user_version={FORMAT}"

CHANGES_KEPT = 10_000  # rows of the log; a reader that is further behind runs its query again
CHANGES_PRUNE_EVERY = 256  # commits between two prunings
CHANGE_KEYS_MAX = 5_000  # more keys of one table in a transaction are logged as "anything"

BASE_DDL = (
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    (
        "CREATE TABLE collections(name TEXT PRIMARY KEY COLLATE NOCASE, key TEXT NOT NULL,"
        " layout TEXT NOT NULL, fingerprints TEXT NOT NULL) WITHOUT ROWID"
    ),
    "CREATE TABLE changes(n INTEGER PRIMARY KEY, at INTEGER NOT NULL, body TEXT NOT NULL)",
    "INSERT INTO meta(name, value) VALUES('epoch', '1')",
)

LOG_CHANGE = "INSERT INTO changes(at, body) VALUES(?,?)"
PRUNE_CHANGES = "DELETE FROM changes WHERE n<=?"
READ_CHANGES = "SELECT n, body FROM changes WHERE n>? ORDER BY n"
CHANGES_HEAD = "SELECT coalesce(max(n), 0) FROM changes"
GET_META = "SELECT value FROM meta WHERE name=?"
SET_META = (
    "INSERT INTO meta(name, value) VALUES(?,?) ON CONFLICT(name) DO UPDATE SET value=excluded.value"
)
DROP_META = "DELETE FROM meta WHERE name=?"
# What another process may have changed, in one statement (see SQLiteStore.refresh).
READ_EPOCH = (
    "SELECT (SELECT value FROM meta WHERE name='epoch'),"
    " (SELECT at FROM changes ORDER BY n DESC LIMIT 1)"
)


def quote(name: str) -> str:
    """An identifier, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def create_table(table_ident: str, layout: Layout) -> str:
    """``doc`` is last: index columns are read without walking the pages of a long document."""
    keys = "".join(f"{quote(column)}, " for column in layout.columns.values())
    return (
        f"CREATE TABLE {quote(table_ident)}(seq INTEGER PRIMARY KEY, id NOT NULL UNIQUE,"
        " rev INTEGER NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL,"
        f" expires INTEGER, tok TEXT, bkt TEXT, {keys}"
        + (f"packed TEXT NOT NULL, {_DOC_COMPUTED})" if layout.packed else "doc TEXT NOT NULL)")
    )


# Whoever reads ``doc`` gets text, in every statement there is. A computed column that is not stored
# costs nothing where it is not named.
_DOC_COMPUTED = "doc TEXT GENERATED ALWAYS AS (homeport_text(packed, id)) VIRTUAL"


def pack_documents(collection: str) -> tuple[str, str]:
    """Make room for compressed documents in a table that has plain ones: no row is touched."""
    table = quote(table_ident(collection))
    return (
        f"ALTER TABLE {table} RENAME COLUMN doc TO packed",
        f"ALTER TABLE {table} ADD COLUMN {_DOC_COMPUTED}",
    )


def create_index(table_ident: str, ident: str, columns: Sequence[str], *, sparse: bool) -> str:
    """Never physically unique: uniqueness is checked by query, so that a row from the server can
    always be stored (rule G)."""
    names = ", ".join(map(quote, columns))
    where = f" WHERE {quote(columns[0])} IS NOT NULL" if sparse else ""
    return f"CREATE INDEX {quote(ident)} ON {quote(table_ident)}({names}){where}"


def create_expiry_index(collection: str) -> str:
    return (
        f"CREATE INDEX IF NOT EXISTS {quote(f'x_{collection}.expires')}"
        f" ON {quote(table_ident(collection))}(expires) WHERE expires IS NOT NULL"
    )


def create_multi(ident: str) -> str:
    return f"CREATE TABLE {quote(ident)}(k, seq INTEGER, PRIMARY KEY(k, seq)) WITHOUT ROWID"


def create_text(ident: str, columns: dict[str, str]) -> str:
    """contentless_delete: a row is removed by its number, so an index never rots because the old
    text was computed differently. ``ascii`` splits at spaces only, since every word that reaches it
    was folded by core.words: one tokenizer decides for the index and for a scan. prefix: else the
    documents of all words with a first letter are merged before the first one is found."""
    names = ", ".join(map(quote, columns.values()))
    return (
        f"CREATE VIRTUAL TABLE {quote(ident)} USING fts5({names},"
        " content='', contentless_delete=1, tokenize='ascii', prefix='1')"
    )


def create_vocabulary(collection: str, name: str) -> str:
    """The words of the full-text table and how many documents hold each: a view, it stores
    nothing."""
    text = text_ident(collection, name).replace("'", "''")
    vocabulary = quote(vocabulary_ident(collection, name))
    return f"CREATE VIRTUAL TABLE {vocabulary} USING fts5vocab('{text}', 'row')"


def text_put(ident: str, columns: Iterable[str]) -> str:
    """Store the words of a document, in place of earlier ones."""
    names = [*map(quote, columns), "rowid"]
    marks = ", ".join("?" * len(names))
    return f"INSERT OR REPLACE INTO {quote(ident)}({', '.join(names)}) VALUES({marks})"


def table_ident(collection: str) -> str:
    return f"c_{collection}"


def text_ident(collection: str, name: str) -> str:
    """name: ``Layout.text_name``, or that of another one."""
    return f"f_{collection}.text{name}"


def vocabulary_ident(collection: str, name: str) -> str:
    return f"v_{collection}.text{name}"


def label(ident: str) -> str:
    """A table or index of the file in the user's words: ``wells``, ``wells.field_depth_m``."""
    kind, name = ident[:2], ident[2:]
    if kind == "c_":
        return name
    if kind in ("i_", "m_", "f_", "x_") and "." in name:
        return name.partition(".text")[0] + ".text" if kind == "f_" else name
    if ident.startswith("sqlite_autoindex_c_"):
        return ident.removeprefix("sqlite_autoindex_c_").rpartition("_")[0] + ".key"
    return "homeport." + ident


class Usable:
    """The complete indexes of a collection, for the planner."""

    def __init__(self, key: str, indexes: tuple[Index, ...]) -> None:
        self.key = key
        self.indexes = indexes
        self.multi = tuple(index for index in indexes if index.multi)
        self.text_paths = tuple(
            dict.fromkeys(f for index in indexes if index.kind == "fulltext" for f in index.fields)
        )


def _plain(indexes: Sequence[Index]) -> list[Index]:
    """The indexes that are made of columns of the collection's own table."""
    return [index for index in indexes if not index.multi and index.kind != "fulltext"]


class TextTable:
    """A full-text table that writes keep: where its texts are among the extras of a row, and how
    they are stored."""

    def __init__(self, codec: Codec[Any], ident: str, columns: dict[str, str]) -> None:
        self.places = tuple(codec.text_paths.index(path) for path in columns)
        self.put = text_put(ident, columns.values())
        self.drop = f"DELETE FROM {quote(ident)} WHERE rowid=?"


class Statements:
    """The SQL texts of one collection, made once; equal texts hit SQLite's statement cache.

    foreign: the file has other indexes than the declaration, so rows and extras are made again, by
    ``codec``. Rows of ``Codec`` bind as they are: ?1 id, ?2 doc, ?3.. index columns, then stamp,
    expiry and, for rows from the server, token and bucket.
    """

    def __init__(self, table: Table[Any], layout: Layout) -> None:
        self.layout = layout
        self.name = table.name
        # What the file holds decides what is written; only what is complete is read.
        written = file_indexes(table.collection.indexes, layout, ready=False)
        self.foreign = list(map(id, written)) != list(map(id, table.collection.indexes))
        codec = self.codec = (
            Codec(table.collection.with_indexes(written)) if self.foreign else table.codec
        )
        ready = file_indexes(table.collection.indexes, layout, ready=True)
        self.usable = Usable(codec.key, ready)
        physical = layout.physical
        self.columns = tuple(quote(physical[path]) for path in codec.columns)
        self.column_of = {path: quote(column) for path, column in layout.columns.items()}
        self.column_of_index = dict(self.column_of)
        self.column_of[codec.key] = "id"
        self.expiring = table.collection.expiring
        self.has_extras = codec.has_extras
        self.hashed = Hashed(ready)
        self.unique = tuple(index for index in ready if index.unique)
        self.plain = not (self.has_extras or self.unique or self.expiring or self.foreign)
        self.tracked = table.collection.track_changes
        # The file may have packed documents of another declaration; this one says what is written.
        way = table.collection.compression
        self.doc_column = "packed" if layout.packed else "doc"
        self.doc_value = "?2" if way == "none" else f"homeport_pack(?2, '{way}')"
        self.log_head = f'{{"{table.name}":['
        # Paths that lead to rows by themselves.
        self.leading = frozenset(i.fields[0] for i in _plain(ready)) | {codec.key}
        t = self.table = quote(table_ident(table.name))
        self.alive = "(expires IS NULL OR expires>?)" if self.expiring else ""
        alive_and = f" AND {self.alive}" if self.alive else ""
        alive_on = alive_and.replace("expires", "t.expires")

        self.get = f"SELECT doc FROM {t} WHERE id=?{alive_and}"
        self.get_many = (
            f"SELECT t.doc FROM json_each(?) j LEFT JOIN {t} t ON t.id=j.value{alive_on}"
        )
        self.row = (
            f"SELECT rev, created, modified, expires, tok, bkt, doc FROM {t} WHERE id=?{alive_and}"
        )
        self.exists = f"SELECT 1 FROM {t} WHERE id=?{alive_and}"
        self.old = f"SELECT id, seq, doc FROM {t} WHERE id=?"
        self.olds = (
            f"SELECT t.id, t.seq, t.doc FROM json_each(?) j CROSS JOIN {t} t ON t.id=j.value"
        )
        self.put = self._upsert(tokens=False)
        self.put_token = self._upsert(tokens=True)
        self.delete = f"DELETE FROM {t} WHERE id=?"
        self.delete_seq = f"DELETE FROM {t} WHERE seq=?"
        self.expired = f"SELECT id, seq, doc FROM {t} WHERE expires<=? LIMIT ?"
        self.expired_since = f"SELECT id FROM {t} WHERE expires>? AND expires<=?"
        self.expires_next = f"SELECT min(expires) FROM {t} WHERE expires>?"
        self.expired_any = f"SELECT 1 FROM {t} WHERE expires<=? LIMIT 1"

        sides = {name: ident for name, (ident, _) in layout.multi.items()}
        self.multi_of = {name: quote(ident) for name, ident in sides.items()}
        self.indexes_multi = self.usable.multi
        sides.update((name, one.ident) for name, one in layout.building.items())
        self.multi = tuple(quote(sides[index.name]) for index in codec.multi)
        self.multi_add = tuple(f"INSERT OR IGNORE INTO {m}(k, seq) VALUES(?,?)" for m in self.multi)
        self.multi_drop = tuple(f"DELETE FROM {m} WHERE k=? AND seq=?" for m in self.multi)
        name = layout.text_name
        self.text = quote(text_ident(table.name, name)) if layout.text else ""
        self.text_column = {path: quote(column) for path, column in layout.text.items()}
        self.vocabulary = quote(vocabulary_ident(table.name, name)) if layout.text else ""
        self.texts: list[TextTable] = []
        if layout.text:
            self.texts.append(TextTable(codec, text_ident(table.name, name), layout.text))
        if layout.next_text is not None:
            ident = text_ident(table.name, layout.next_text.name)
            self.texts.append(TextTable(codec, ident, layout.next_text.columns))

    def put_at(self, stamp_ms: int) -> str:
        """``put`` for very many rows at one time: it binds nothing but the rows of ``Codec``."""
        return self._upsert(tokens=False, stamp=str(stamp_ms))

    def _upsert(self, *, tokens: bool, stamp: str = "") -> str:
        n = len(self.columns)
        expires, token, bucket = (f"?{n + i}" for i in (4, 5, 6))
        if stamp:
            expires = "NULL"
        else:
            stamp = f"?{n + 3}"
        names = ["id", self.doc_column, *self.columns, "rev", "created", "modified", "expires"]
        values = ["?1", self.doc_value, *(f"?{i + 3}" for i in range(n))]
        values += ["1", stamp, stamp, expires]
        updates = ["rev=rev+1", "modified=excluded.modified", "expires=excluded.expires"]
        if tokens:
            names += ["tok", "bkt"]
            values += [token, bucket]
            updates += ["tok=excluded.tok", "bkt=excluded.bkt"]
        if self.layout.generation:
            names.append("built")
            values.append(str(self.layout.generation))
            updates.append(f"built={self.layout.generation}")
        updates += [f"{c}=excluded.{c}" for c in (*self.columns, self.doc_column)]
        returning = " RETURNING seq" if self.has_extras else ""
        # Upsert, never REPLACE: a replaced row would change its seq under the side tables.
        return (
            f"INSERT INTO {self.table}({', '.join(names)}) VALUES({', '.join(values)})"
            f" ON CONFLICT(id) DO UPDATE SET {', '.join(updates)}{returning}"
        )
