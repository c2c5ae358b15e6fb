"""The physical form of a collection, as the file records it: columns, indexes, side tables.

What the file holds is the law for every process that writes to it, whatever it declares itself: an
index that only another process knows is maintained all the same. So the record says everything that
is needed for that, also of indexes that are still being built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from homeport.core.indexes import Index, Kind

if TYPE_CHECKING:
    from homeport.core.codec import Table


class Spec(msgspec.Struct, omit_defaults=True):
    """What an index of the file is. created: made by ``create_index``, not by a declaration.

    unique: true once its documents were found without duplicates; from then on it is enforced.
    """

    fields: tuple[str, ...]
    kind: Kind = "btree"
    multi: bool = False
    sparse: bool = False
    unique: bool = False
    created: bool = False

    @classmethod
    def of(cls, index: Index, *, created: bool = False, unique: bool = False) -> Spec:
        return cls(index.fields, index.kind, index.multi, index.sparse, unique, created)

    @property
    def shape(self) -> tuple[Any, ...]:
        """What cannot change without building it anew."""
        # A hash index is a b-tree here.
        return (self.fields, self.kind == "fulltext", self.multi, self.sparse)

    def index(self, name: str) -> Index:
        return Index.named(
            name, self.fields, unique=self.unique, multi=self.multi, sparse=self.sparse,
            kind=self.kind,
        )  # fmt: skip


class Building(msgspec.Struct):
    """An index that is not complete: ident and columns as in ``Layout.indexes``; of a multi-entry
    index the side table. generation: rows written under this number or a later one are in it."""

    ident: str
    columns: tuple[str, ...]
    generation: int


class NextText(msgspec.Struct):
    """A full-text table that is being filled. name: behind the collection's, in the table's name.
    columns: path → column. words: version of the tokenizer. leaving: indexes that it is without,
    and which are gone when it is complete."""

    name: str
    columns: dict[str, str]
    words: int
    leaving: list[str] = []


class Layout(msgspec.Struct, omit_defaults=True):
    """The physical form of one collection, stored as JSON in ``collections.layout``.

    columns: path → column. indexes: name → [ident, columns..., "sparse"?]. multi: name → [side
    table, fields]. text: path → column of the full-text table that is read; text_name: behind the
    collection's, in its name; words: version of the tokenizer that filled it. specs: name → what it
    is, of all indexes.

    building: name → index that is being built; filling: path → column that only such indexes use
    and that is not filled yet. generation: how often a build was begun; when it is above 0, the
    table has a column ``built`` with the generation under which a row was written. left: columns
    that no index uses any more. unproved: declared unique, not examined for duplicates yet.
    next_text: full text that is being built; old_texts: names of such tables to be removed; texts:
    how often one was begun. old_sides: side tables to be removed.

    packed: documents may be compressed; they are then in the column ``packed``, and ``doc`` is
    computed from it. Once so, it stays so.
    """

    columns: dict[str, str] = {}
    indexes: dict[str, tuple[str, tuple[str, ...], bool]] = {}
    multi: dict[str, tuple[str, tuple[str, ...]]] = {}
    text: dict[str, str] = {}
    words: int = 0
    specs: dict[str, Spec] = {}
    building: dict[str, Building] = {}
    filling: dict[str, str] = {}
    generation: int = 0
    left: list[str] = []
    unproved: list[str] = []
    text_name: str = ""
    next_text: NextText | None = None
    old_texts: list[str] = []
    old_sides: list[str] = []
    texts: int = 0
    packed: bool = False

    @property
    def unfinished(self) -> bool:
        """Is there anything left to build or to remove?"""
        return bool(self.building or self.next_text or self.old_texts or self.old_sides)

    @property
    def physical(self) -> dict[str, str]:
        """path → column, of all columns that a write has to fill."""
        return {**self.columns, **self.filling}

    def names_of_columns(self) -> list[str]:
        return [*self.columns.values(), *self.filling.values(), *self.left]

    def idents(self) -> Iterator[str]:
        """Names of indexes and side tables that are taken."""
        yield from (entry[0] for entry in self.indexes.values())
        yield from (entry[0] for entry in self.multi.values())
        yield from (entry.ident for entry in self.building.values())
        yield from self.old_sides


def free_name(wanted: str, taken: Iterable[str]) -> str:
    """``wanted``, with a number when another name differs from it only by case."""
    lowered = {name.lower() for name in taken}
    name, n = wanted, 1
    while name.lower() in lowered:
        n += 1
        name = f"{wanted}~{n}"
    return name


def first_layout(table: Table[Any], words: int) -> Layout:
    """The layout of a collection that the file does not have yet."""
    layout = Layout(packed=table.collection.compression != "none")
    for path in table.codec.columns:
        layout.columns[path] = free_name(f"k_{path}", layout.columns.values())
    for index in table.collection.indexes:
        layout.specs[index.name] = Spec.of(index, unique=index.unique)
        if index.kind == "fulltext":
            continue
        ident = free_ident(table.name, index, layout)
        if index.multi:
            layout.multi[index.name] = (ident, index.fields)
        else:
            columns = tuple(layout.columns[path] for path in index.fields)
            layout.indexes[index.name] = (ident, columns, index.sparse)
    layout.text = text_columns(table.codec.text_paths, {})
    layout.words = words if layout.text else 0
    return layout


def text_columns(paths: Iterable[str], old: dict[str, str]) -> dict[str, str]:
    """path → column of a full-text table; those of an earlier one keep their names."""
    columns: dict[str, str] = {}
    for path in paths:
        columns[path] = old.get(path) or free_name(f"t_{path}", [*old.values(), *columns.values()])
    return columns


def free_ident(collection: str, index: Index, layout: Layout) -> str:
    kind = "m" if index.multi else "i"
    return free_name(f"{kind}_{collection}.{index.name}", layout.idents())


def file_indexes(declared: Sequence[Index], layout: Layout, *, ready: bool) -> tuple[Index, ...]:
    """The indexes of the file: those of the declaration in its order, then the others.

    ready: only complete ones. An incomplete one is not unique yet: nobody can look into it.
    """
    found: list[Index] = []
    names = [index.name for index in declared if index.name in layout.specs]
    names += [name for name in layout.specs if name not in names]
    by_name = {index.name: index for index in declared}
    for name in names:
        if ready and name in layout.building:
            continue
        spec = layout.specs[name]
        known = by_name.get(name)
        if known is not None and known.unique == spec.unique and spec.shape == Spec.of(known).shape:
            found.append(known)
        else:
            found.append(spec.index(name))
    return tuple(found)
