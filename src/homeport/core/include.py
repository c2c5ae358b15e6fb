"""Reading related documents: one query for each relation, never one for each document. All is one
operation, so what it returns is of one state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from homeport.core.aggregate import field_reader
from homeport.core.conditions import AnyOf, Condition, Element
from homeport.core.keys import Encoded, encode
from homeport.core.operations import Chunks, holding, unfiltered
from homeport.core.query import EMPTY, QueryValue, bind, bind_order, parse_filter, parse_order
from homeport.core.relations import Included, Many, Relation
from homeport.core.requests import Find, GetMany, Operation, Plan
from homeport.core.schema import Collection
from homeport.errors import (
    InvalidQuery,
    NotFound,
    NotUnique,
    UnknownCollection,
    UnknownField,
    UsageError,
)

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.keys import Key

T = TypeVar("T")
Row: TypeAlias = "tuple[Key, str]"


# -- bound to the tables of an open database


class Bound:
    """A relation with its table; paths and conditions in stored form. mine: it is a field of the
    including collection."""

    __slots__ = ("inner", "many", "name", "names", "path", "query", "table", "unwinds")

    def __init__(self, name: str, relation: Relation[Any], owner: Table[Any]) -> None:
        self.name = name
        self.table = _table_of(relation, owner)
        self.many = isinstance(relation, Many)
        codec = (self.table if self.many else owner).codec
        try:
            self.path = codec.scope.check_path(relation.field)
        except UnknownField as error:
            raise UnknownField(error.message, action=_hint(relation, owner, self.table)) from error
        self.unwinds = self.many and codec.has_entries(relation.field)
        self.query = _query_of(relation, self.table)
        self.names = relation.inner
        self.inner = bound(relation.inner, self.table)

    def wanted(self, keys: Sequence[Key]) -> QueryValue:
        """The query for the documents that belong to these keys."""
        condition: Condition = AnyOf("" if self.unwinds else self.path, keys)
        if self.unwinds:
            condition = Element(self.path, condition)
        return self.query.and_where(condition)


def bound(relations: Mapping[str, Relation[Any]], owner: Table[Any]) -> list[Bound]:
    return [Bound(name, relation, owner) for name, relation in relations.items()]


def _table_of(relation: Relation[Any], owner: Table[Any]) -> Table[Any]:
    given = relation.collection
    name = given if isinstance(given, str) else given.name
    table = owner.siblings.get(name)
    if table is None or table.system:
        there = ", ".join(sorted(n for n, t in owner.siblings.items() if not t.system))
        raise UnknownCollection(
            f"include() names the collection {name!r}; the database was opened with: {there}.",
            action="Give the relation its collection: "
            f'include({name}=hp.Many(curves, "well_id")), or pass it in open(collections=[...]).',
        )
    if isinstance(given, Collection) and table.collection is not given:
        raise UnknownCollection(
            f"The database was opened with another declaration of {name!r} than this one.",
            action="Use the Collection that was passed in open(collections=[...]), or its name.",
        )
    return table


def _hint(relation: Relation[Any], owner: Table[Any], table: Table[Any]) -> str:
    """A field that the other side has: the relation was meant the other way round."""
    other, kind = (owner, "One") if isinstance(relation, Many) else (table, "Many")
    try:
        other.codec.scope.check_path(relation.field)
    except UnknownField:
        return "Name the field that holds the key."
    return (
        f"It is a field of {other.name}: write "
        f'hp.{kind}("{table.name}", "{relation.field}") for that.'
    )


def _query_of(relation: Relation[Any], table: Table[Any]) -> QueryValue:
    where = relation.where
    query = EMPTY.with_bound_order(
        bind_order(parse_order(relation.order), table.codec) if relation.order else (("", False),)
    )
    if where is None:
        return query
    condition = parse_filter(where) if isinstance(where, Mapping) else where
    if not isinstance(condition, Condition):
        raise InvalidQuery(f"where= takes a condition or a JSON filter, not {where!r:.60}.")
    return query.and_where(bind(condition, table.codec))


# -- reading


class Found:
    """The stored text of a document and, by name, what belongs to it."""

    __slots__ = ("related", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.related: dict[str, list[Found] | Found | None] = {}


def included(
    table: Table[T], query: QueryValue, relations: Mapping[str, Relation[Any]]
) -> Operation[list[Included[T]]]:
    """What matches, with what belongs to it; one query, and one for each relation."""
    wanted = bound(relations, table)

    def finish(rows: list[Found]) -> list[Included[T]]:
        return [_decoded(table, row, wanted, relations) for row in rows]

    scope = (table, *_tables(wanted))
    return Operation(_read(table, query, wanted), "read", False, scope, False, finish)


def _tables(relations: Iterable[Bound]) -> Iterable[Table[Any]]:
    for relation in relations:
        yield relation.table
        yield from _tables(relation.inner)


def _read(table: Table[T], query: QueryValue, relations: list[Bound]) -> Plan[list[Found]]:
    rows: list[Row]
    if query.predicates:
        rows = yield Find(table, unfiltered(query), "entries")
        rows = holding(table, query, rows)
    else:
        rows = yield Find(table, query, "entries")
    return (yield from related(rows, relations))


def related(rows: Sequence[Row], relations: list[Bound]) -> Plan[list[Found]]:
    """Rows with what belongs to them. A plan never asks row by row."""
    found = [Found(text) for _, text in rows]
    for relation in relations if rows else ():
        if relation.many:
            yield from _many(relation, rows, found)
        else:
            yield from _one(relation, found)
    return found


def _many(relation: Bound, rows: Sequence[Row], owners: list[Found]) -> Plan[None]:
    keys = [key for key, _ in rows]
    children: list[Row] = yield Find(relation.table, relation.wanted(keys), "entries")
    loaded = yield from related(children, relation.inner)
    groups: dict[Encoded | None, list[Found]] = {}
    read = field_reader((relation.path,))
    for (_, text), child in zip(children, loaded, strict=True):
        (value,) = read(text)
        values = value if relation.unwinds and isinstance(value, list) else (value,)
        for name in {encode(one) for one in values}:
            groups.setdefault(name, []).append(child)
    for key, owner in zip(keys, owners, strict=True):
        owner.related[relation.name] = groups.get(encode(key), [])


def _one(relation: Bound, owners: list[Found]) -> Plan[None]:
    read = field_reader((relation.path,))
    named = [_as_key(read(owner.text)[0]) for owner in owners]
    keys = list({encode(key): key for key in named if key is not None}.values())
    texts: list[str | None] = (yield GetMany(relation.table, keys)) if keys else []
    rows = [(key, text) for key, text in zip(keys, texts, strict=True) if text is not None]
    loaded = yield from related(rows, relation.inner)
    by_key = {encode(key): one for (key, _), one in zip(rows, loaded, strict=True)}
    for owner, key in zip(owners, named, strict=True):
        owner.related[relation.name] = None if key is None else by_key.get(encode(key))


def _as_key(value: Any) -> Any:
    """What a field holds, if it can be the key of a document."""
    if isinstance(value, bool) or value == "" or encode(value) is None:
        return None
    return value


def _decoded(
    table: Table[T], row: Found, relations: list[Bound], names: Mapping[str, Relation[Any]]
) -> Included[T]:
    parts: dict[str, Any] = {}
    for relation in relations:
        here = row.related[relation.name]
        decode = _decoder(relation)
        if isinstance(here, list):
            parts[relation.name] = [decode(child) for child in here]
        else:
            parts[relation.name] = None if here is None else decode(here)
    return Included(table.codec.decode(row.text), parts, names)


def _decoder(relation: Bound) -> Callable[[Found], Any]:
    table = relation.table
    if relation.inner:
        return lambda row: _decoded(table, row, relation.inner, relation.names)
    return lambda row: table.codec.decode(row.text)


def only(table: Table[Any], found: list[Included[T]]) -> Included[T]:
    """The one row of a result; ``NotFound`` or ``NotUnique`` otherwise."""
    if not found:
        raise NotFound(f"No document of {table.name} matches.", collection=table.name)
    if len(found) > 1:
        raise NotUnique(f"Several documents of {table.name} match.", collection=table.name)
    return found[0]


class IncludedChunks(Generic[T]):
    """An iteration in chunks, each with what belongs to its documents."""

    def __init__(
        self, table: Table[T], query: QueryValue, relations: Mapping[str, Relation[Any]]
    ) -> None:
        if query.predicates:
            raise UsageError(
                "A query with filter() and include() cannot be iterated in chunks.",
                action="Use all(), or where() in place of filter().",
            )
        self._chunks = Chunks(table, query)
        self._table = table
        self._relations = relations
        self._wanted = bound(relations, table)

    def next(self) -> Operation[tuple[list[Row], list[Found]]] | None:
        """The operation that reads the next chunk, None at the end."""
        chunk = self._chunks.next()
        if chunk is None:
            return None
        scope = (self._table, *_tables(self._wanted))
        return Operation(self._plan(chunk.plan), "read", False, scope)

    def _plan(self, find: Any) -> Plan[tuple[list[Row], list[Found]]]:
        rows: list[Row] = yield find
        return rows, (yield from related(rows, self._wanted))

    def rows(self, chunk: tuple[list[Row], list[Found]]) -> list[Included[T]]:
        """The rows of a chunk that was read."""
        entries, found = chunk
        self._chunks.documents(entries)  # which remembers where the next one begins
        return [_decoded(self._table, row, self._wanted, self._relations) for row in found]
