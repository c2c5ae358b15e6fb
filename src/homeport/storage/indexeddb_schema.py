"""The shape of the database: object stores, their indexes, and how both follow the declarations.

Stores: one for each collection, ``named`` for named texts, ``changes`` for the change log. The
shape of each collection is written down in ``named`` under ``layout``, because IndexedDB can say
which indexes there are, not what Homeport put into them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from homeport.core.codec import Table
from homeport.core.words import TOKENIZER
from homeport.errors import SchemaMismatch
from homeport.storage.indexeddb_wire import ask, ask_texts, wire_row

R = TypeVar("R")
Stepped: TypeAlias = Generator[str, str, R]

NAMED: Final = "named"
CHANGES: Final = "changes"
BATCH_ROWS: Final = 500


def place_of(name: str) -> str:
    """The object store of a collection."""
    return f"docs:{name}"


class Layout(msgspec.Struct):
    """What the database says about one collection.

    columns, multi, text: what record fields c0…, m0…, w0… hold. indexes: names and field paths of
    the plain ones. fingerprints: of the models that have written here.
    """

    key: str
    columns: list[str]
    multi: list[list[str]]
    text: list[str]
    indexes: list[tuple[str, list[str]]]
    expiring: bool
    fingerprints: list[str]
    tokenizer: int = TOKENIZER

    @classmethod
    def of(cls, table: Table[Any]) -> Layout:
        codec = table.codec
        plain = [i for i in codec.indexes if not i.multi and i.kind != "fulltext"]
        return cls(
            codec.key,
            list(codec.columns),
            [list(index.fields) for index in codec.multi],
            list(codec.text_paths),
            sorted((index.name, list(index.fields)) for index in plain),
            table.collection.ttl_s is not None,
            [codec.fingerprint],
        )

    @property
    def shape(self) -> tuple[Any, ...]:
        """What has to be the same for a declaration to fit."""
        return (*self.contents, self.indexes, self.expiring)

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


def check(table: Table[Any], stored: Layout | None) -> None:
    """Refuse a declaration that the documents contradict."""
    if stored is not None and stored.key != table.collection.key:
        raise SchemaMismatch(
            f"The documents of {table.name} have their key in {stored.key!r}, the declaration says "
            f"{table.collection.key!r}.",
            collection=table.name,
        )


def read_layout() -> Stepped[dict[str, Layout]]:
    ((text,),) = yield from ask({"op": "named", "get": ["layout"], "set": []})
    return msgspec.json.decode(text or "{}", type=dict[str, Layout])


def follow(tables: Sequence[Table[Any]], layouts: dict[str, Layout]) -> Stepped[None]:
    """Inside an upgrade: make the stores and indexes of these tables what they should be.

    layouts: as they are; those of other tables stay.
    """
    if not layouts:
        yield from ask(
            {"op": "shape", "s": NAMED, "key": "k", "auto": False, "indexes": []},
            {"op": "shape", "s": CHANGES, "key": "n", "auto": True, "indexes": []},
        )
        ((epoch,),) = yield from ask({"op": "named", "get": ["epoch"], "set": []})
        if epoch is None:
            yield from ask({"op": "named", "get": [], "set": [["epoch", "1"]]})
    for table in tables:
        old, new = layouts.get(table.name), Layout.of(table)
        bare = {"op": "shape", "s": place_of(table.name), "key": "k", "auto": False}
        if old is not None:
            new.fingerprints = list(dict.fromkeys([*old.fingerprints, *new.fingerprints]))
            if old.contents != new.contents:
                yield from ask({**bare, "indexes": []})
                yield from _refill(table)
        yield from ask({**bare, "indexes": new.engine_indexes()})
        layouts[table.name] = new
    text = msgspec.json.encode(layouts).decode()
    yield from ask({"op": "named", "get": [], "set": [["layout", text]]})


def _refill(table: Table[Any]) -> Stepped[None]:
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
            rows.append(wire_row(row, extras))
        if rows:
            yield from ask({"op": "refill", "s": place, "rows": rows})
        if len(rows) < BATCH_ROWS:
            return
        after = last[1:]
