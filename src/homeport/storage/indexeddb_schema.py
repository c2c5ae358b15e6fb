"""The shape of the database: object stores, their indexes, and how both follow the declarations.

Stores: one for each collection, ``named`` for named texts, ``changes`` for the change log. The
shape of each collection is written down in ``named`` under ``layout``, because IndexedDB can say
which indexes there are, not what Homeport put into them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from homeport.core.codec import Table
from homeport.core.indexing import refused
from homeport.core.keys import decode, order
from homeport.core.outbox import META_VERSIONS
from homeport.core.sealing import Ring
from homeport.core.uniqueness import values_of
from homeport.core.words import TOKENIZER
from homeport.errors import SchemaMismatch
from homeport.storage.indexeddb_wire import ask, ask_texts, wire_row

R = TypeVar("R")
Stepped: TypeAlias = Generator[str, str, R]

NAMED: Final = "named"
CHANGES: Final = "changes"
RING: Final = "ring"
FLAGS: Final = ("epoch", "sync.collections")
"""Named texts that say how the collections are to be treated."""

BATCH_ROWS: Final = 500


def place_of(name: str) -> str:
    """The object store of a collection."""
    return f"docs:{name}"


class Layout(msgspec.Struct):
    """What the database says about one collection.

    columns, multi, text: what record fields c0…, m0…, w0… hold. indexes: names and field paths of
    the plain ones. fingerprints: of the models that have written here. unique: specs of indexes.
    """

    key: str
    columns: list[str]
    multi: list[list[str]]
    text: list[str]
    indexes: list[tuple[str, list[str]]]
    expiring: bool
    fingerprints: list[str]
    unique: list[str] = []
    tokenizer: int = TOKENIZER
    version: int = 1
    """Of the documents: a program of an older version must notice that it is one."""

    @classmethod
    def of(cls, table: Table[Any], *, sealed: bool = False) -> Layout:
        """sealed: there is a key, so no words are stored: they would be the text."""
        codec = table.codec
        plain = [i for i in codec.indexes if not i.multi and i.kind != "fulltext"]
        return cls(
            codec.key,
            list(codec.columns),
            [list(index.fields) for index in codec.multi],
            [] if sealed else list(codec.text_paths),
            sorted((index.name, list(index.fields)) for index in plain),
            table.collection.expiring,
            [codec.fingerprint],
            sorted(index.spec for index in codec.indexes if index.unique),
            version=table.collection.versions.current,
        )

    @property
    def shape(self) -> tuple[Any, ...]:
        """What has to be the same for a declaration to fit."""
        return (*self.contents, self.indexes, self.expiring, self.unique)

    @property
    def contents(self) -> tuple[Any, ...]:
        """What records hold beside their text."""
        return (self.columns, self.multi, self.text, self.tokenizer if self.text else 0)

    def engine_indexes(self) -> list[list[Any]]:
        """[name, property or properties, one entry per element]."""
        found: list[list[Any]] = []
        for name, fields in self.indexes:
            columns = [f"c{self.columns.index(field)}" for field in fields]
            found.append([name, columns[0] if len(columns) == 1 else columns, False])
        found += [[f"m{n}", f"m{n}", True] for n in range(len(self.multi))]
        found += [[f"w{n}", f"w{n}", True] for n in range(len(self.text))]
        return [*found, ["expires", "e", False]] if self.expiring else found


_layouts = msgspec.json.Decoder(dict[str, Layout]).decode


def check(table: Table[Any], stored: Layout | None) -> None:
    """Refuse a declaration that the documents contradict."""
    if stored is not None and stored.key != table.collection.key:
        raise SchemaMismatch(
            f"The documents of {table.name} have their key in {stored.key!r}, the declaration says "
            f"{table.collection.key!r}.",
            collection=table.name,
        )
    version = table.collection.versions.current
    if stored is not None and stored.version > version:
        raise SchemaMismatch(
            f"The documents of {table.name} have version {stored.version}; this program knows "
            f"{version}.",
            action="Reload the page, so that it is the newer program.",
            collection=table.name,
        )


def read_layout() -> Stepped[dict[str, Layout]]:
    ((text,),) = yield from ask({"op": "named", "get": ["layout"], "set": []})
    return _layouts(text or "{}")


class Read(NamedTuple):
    """What a connection asks first. ring: the keys, None = there are none. flags: ``FLAGS``.
    versions: ``META_VERSIONS`` if it was asked for, of no use where there are keys."""

    layouts: dict[str, Layout]
    ring: str | None
    flags: list[str | None]
    versions: str | None


def read_all(*, versions: bool = False) -> Stepped[Read]:
    names = ["layout", RING, *FLAGS, *([META_VERSIONS] if versions else [])]
    ((text, ring, epoch, synced, *rest),) = yield from ask({"op": "named", "get": names, "set": []})
    layouts = _layouts(text or "{}")
    return Read(layouts, ring, [epoch, synced], rest[0] if rest else None)


def keep_ring(text: str) -> Stepped[str | None]:
    """Give an empty database a ring → the one that it has then; None when it is not empty and has
    none."""
    layouts, ring, *_ = yield from read_all()
    if layouts or ring is not None:
        return ring
    yield from ask({"op": "named", "get": [], "set": [[RING, text]]})
    return text


def swap_ring(old: str, new: str) -> Stepped[bool]:
    """Put a ring in the place of another → False: the database has a third one."""
    ring = (yield from read_all()).ring
    if ring != old:
        return False
    yield from ask({"op": "named", "get": [], "set": [[RING, new]]})
    return True


def same_keys(one: str | None, other: str | None) -> bool:
    """Do two rings hold the same data keys? Then what opens the boxes of one opens the other's,
    whatever the user's key is now."""
    if one is None or other is None or one == other:
        return one == other
    first, second = Ring.read(one, RING), Ring.read(other, RING)
    return first.id == second.id and first.keys.keys() == second.keys.keys()


def follow(
    tables: Sequence[Table[Any]], layouts: dict[str, Layout], ring: str | None = None
) -> Stepped[None]:
    """Inside an upgrade: make the stores and indexes of these tables what they should be.

    layouts: as they are; those of other tables stay. ring: the keys as this connection knows them.
    Raises ``DuplicateValues`` when documents of a collection that is not synced break a new unique
    index; then nothing is changed.
    """
    if not layouts:
        yield from ask(
            {"op": "shape", "s": NAMED, "key": "k", "auto": False, "indexes": []},
            {"op": "shape", "s": CHANGES, "key": "n", "auto": True, "indexes": []},
        )
        ((epoch,),) = yield from ask({"op": "named", "get": ["epoch"], "set": []})
        if epoch is None:
            yield from ask({"op": "named", "get": [], "set": [["epoch", "1"]]})
    if not same_keys((yield from read_all()).ring, ring):
        raise SchemaMismatch(
            "Another tab has just made this database with a key, or without one.",
            action="Open it with the same key in all tabs.",
        )
    for table in tables:
        old, new = layouts.get(table.name), Layout.of(table, sealed=ring is not None)
        bare = {"op": "shape", "s": place_of(table.name), "key": "k", "auto": False}
        if old is not None:
            new.fingerprints = list(dict.fromkeys([*old.fingerprints, *new.fingerprints]))
            if old.contents != new.contents:
                yield from ask({**bare, "indexes": []})
                yield from _refill(table, words=ring is None)
            if set(new.unique) - set(old.unique):
                yield from _prove_unique(table, set(old.unique))
        yield from ask({**bare, "indexes": new.engine_indexes()})
        layouts[table.name] = new
    text = msgspec.json.encode(layouts).decode()
    yield from ask({"op": "named", "get": [], "set": [["layout", text]]})


def _prove_unique(table: Table[Any], known: set[str]) -> Stepped[None]:
    ((synced,),) = yield from ask({"op": "named", "get": ["sync.collections"], "set": []})
    if synced and table.name in msgspec.json.decode(synced):
        return  # what the server has sent stays, whatever it breaks (rule G)
    whole = [None, None, False, False, None]
    _, texts = yield from ask_texts(
        {"op": "scan", "s": place_of(table.name), "i": None, "r": [whole], "d": "next", "n": None,
         "f": "t", "now": None}
    )  # fmt: skip
    codec = table.codec
    rows = [codec.row_of_text(text) for text in texts]
    extras = [codec.extras_of_text(text) for text in texts] if codec.has_extras else None
    for index in codec.indexes:
        if not index.unique or index.spec in known:
            continue
        held: dict[Any, tuple[Any, list[Any]]] = {}
        for row, values in zip(rows, values_of(codec, index, rows, extras), strict=True):
            for value in values:
                held.setdefault(tuple(map(order, value)), (value, []))[1].append(decode(row[0]))
        found = [
            (tuple(map(decode, value)), sorted(keys, key=str))
            for _, (value, keys) in sorted(held.items(), key=lambda item: item[0])
            if len(keys) > 1
        ]
        if found:
            raise refused(table.name, index, found)


def _refill(table: Table[Any], *, words: bool) -> Stepped[None]:
    """Write the index fields of every record anew, from its text."""
    place, after = place_of(table.name), None
    while True:
        over = [None, None, False, False, after]
        ((_, last),), texts = yield from ask_texts(
            {"op": "scan", "s": place, "i": None, "r": [over], "d": "next", "n": BATCH_ROWS,
             "f": "t", "now": None}
        )  # fmt: skip
        rows = []
        for text in texts:
            row = table.codec.row_of_text(text)
            extras = table.codec.extras_of_text(text) if table.codec.has_extras else None
            rows.append(wire_row(row, extras, words=words))
        if rows:
            yield from ask({"op": "refill", "s": place, "rows": rows})
        if len(rows) < BATCH_ROWS:
            return
        after = last[1:]
