"""Relations between collections, and the rows that carry what belongs to them.

A relation is declared where it is asked for: ``Many(curves, "well_id")`` are the curves whose
``well_id`` holds my key, ``One(wells, "well_id")`` is the well whose key my ``well_id`` holds. It
is all one operation, so everything it returns is of one state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, overload

from homeport.core.aggregate import path_of
from homeport.core.conditions import Condition
from homeport.core.schema import Collection
from homeport.errors import UsageError

T = TypeVar("T")
C = TypeVar("C")


class Relation(Generic[C]):
    """Base of ``Many`` and ``One``: documents of another collection that belong to mine."""

    __slots__ = ("collection", "field", "inner", "order", "where")

    collection: Collection[Any] | str
    field: str
    where: Condition | Mapping[str, Any] | None
    order: tuple[Any, ...]
    inner: dict[str, Relation[Any]]

    def __repr__(self) -> str:
        name = getattr(self.collection, "name", self.collection)
        return f"{type(self).__name__}({name!r}, {self.field!r})"


class Many(Relation[C]):
    """The documents of another collection whose ``field`` holds the key of mine → a list.

    ``Many(curves, "well_id")``. The field may have a multi-entry index: then it holds keys of many.

    Args:
        collection: its declaration, or its name.
        field: of that collection, a dotted path.
        where: only those that satisfy this too, a condition or a JSON filter.
        order_by: a field or a list of them, as ``order_by`` takes them; None = by key.
    """

    __slots__ = ()

    @overload
    def __init__(
        self: Many[Any],
        collection: str,
        field: Any,
        *,
        where: Condition | Mapping[str, Any] | None = None,
        order_by: Any = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        collection: Collection[C],
        field: Any,
        *,
        where: Condition | Mapping[str, Any] | None = None,
        order_by: Any = None,
    ) -> None: ...
    def __init__(
        self,
        collection: Any,
        field: Any,
        *,
        where: Condition | Mapping[str, Any] | None = None,
        order_by: Any = None,
    ) -> None:
        _declare(self, collection, field)
        self.where = where
        several = isinstance(order_by, (list, tuple))
        self.order = tuple(order_by) if several else () if order_by is None else (order_by,)

    def include(self, **relations: Relation[Any] | str) -> Many[Included[C]]:
        """The same, with related documents of their own."""
        wider: Many[Included[C]] = _with_inner(self, relations)
        return wider


class One(Relation[C]):
    """The document of another collection whose key my ``field`` holds → it, or None.

    ``One(wells, "well_id")``.

    Args:
        collection: its declaration, or its name.
        field: of my own collection, a dotted path.
    """

    __slots__ = ()

    @overload
    def __init__(self: One[Any], collection: str, field: Any) -> None: ...
    @overload
    def __init__(self, collection: Collection[C], field: Any) -> None: ...
    def __init__(self, collection: Any, field: Any) -> None:
        _declare(self, collection, field)
        self.where = None
        self.order = ()

    def include(self, **relations: Relation[Any] | str) -> One[Included[C]]:
        """The same, with related documents of their own."""
        wider: One[Included[C]] = _with_inner(self, relations)
        return wider


def _declare(relation: Relation[Any], collection: Any, field: Any) -> None:
    name = type(relation).__name__
    if not isinstance(collection, (Collection, str)):
        raise UsageError(
            f"{name}() takes a collection, not {collection!r:.60}.",
            action=f'For example hp.{name}(wells, "well_id").',
        )
    relation.collection = collection
    relation.field = path_of(field, f"{name}()")
    relation.inner = {}


def _with_inner(relation: Any, relations: Mapping[str, Relation[Any] | str]) -> Any:
    copy = object.__new__(type(relation))
    for name in Relation.__slots__:
        setattr(copy, name, getattr(relation, name))
    copy.inner = {**relation.inner, **declared(relations)}
    return copy


def declared(relations: Mapping[str, Relation[Any] | str]) -> dict[str, Relation[Any]]:
    """``curves="well_id"`` stands for ``curves=Many("curves", "well_id")``."""
    if not relations:
        raise UsageError(
            "include() names what to include.", action='For example include(curves="well_id").'
        )
    found: dict[str, Relation[Any]] = {}
    for name, relation in relations.items():
        if isinstance(relation, Relation):
            found[name] = relation
        elif isinstance(relation, str):
            found[name] = Many(name, relation)
        else:
            raise UsageError(
                f"include({name}=...) takes the name of a field, hp.Many or hp.One, not "
                f"{relation!r:.60}.",
                action=f'For example include({name}="well_id").',
            )
        if name in _TAKEN or name.startswith("_"):
            raise UsageError(
                f"include() cannot call a relation {name!r}: the row has that name already.",
                action=f"Choose another: include(my_{name.strip('_')}=hp.Many(...)).",
            )
    return found


class Included(Generic[T]):
    """A document with the related documents that were asked for.

    ``row.document`` is the document, ``row.curves`` what was included under that name. With the
    relation itself as the index a type checker knows the type: ``row[rel]``.
    """

    __slots__ = ("_names", "document", "related")

    def __init__(
        self, document: T, related: dict[str, Any], names: Mapping[str, Relation[Any]]
    ) -> None:
        self.document = document
        self.related = related
        self._names = names

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self.related:
            raise AttributeError(
                f"{name!r} was not included; there are: document, {', '.join(self.related)}"
            )
        return self.related[name]

    @overload
    def __getitem__(self, relation: Many[C]) -> list[C]: ...
    @overload
    def __getitem__(self, relation: One[C]) -> C | None: ...
    @overload
    def __getitem__(self, relation: str) -> Any: ...
    def __getitem__(self, relation: Any) -> Any:
        for name, known in self._names.items():
            if known is relation or name == relation:
                return self.related[name]
        raise UsageError(
            f"{relation!r:.60} was not included.", action=f"There are: {', '.join(self._names)}."
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Included)
            and self.document == other.document
            and self.related == other.related
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Included({self.document!r}, {self.related!r})"


_TAKEN = frozenset(("document", "related"))
