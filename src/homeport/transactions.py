"""Units: what ``db.run(fn)`` gives to the user's coroutine. The same on both facades."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar, overload

from homeport.core.codec import Table
from homeport.core.schema import Collection
from homeport.core.units import UnitRunner
from homeport.documents import AsyncDocuments
from homeport.errors import UnknownCollection
from homeport.handles import Handle

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


class Tx(Handle):
    """An open transaction: ``await tx[wells].get(key)``.

    Every operation must be awaited, and nothing else may be. All of it is committed when the
    function returns, and rolled back when an error leaves it.
    """

    __slots__ = ("_runner", "_tables")

    def __init__(self, runner: UnitRunner, tables: Mapping[str, Table[Any]]) -> None:
        self._runner = runner
        self._tables = tables

    @overload
    def __getitem__(self, collection: Collection[T]) -> AsyncDocuments[T]: ...
    @overload
    def __getitem__(self, collection: str) -> AsyncDocuments[Any]: ...
    def __getitem__(self, collection: Any) -> Any:
        return AsyncDocuments(self._runner, table_of(self._tables, collection))

    def __repr__(self) -> str:
        return "<open transaction>"


Unit: TypeAlias = Callable[Concatenate[Tx, P], Coroutine[Any, Any, R]]
"""``async def fn(tx, ...)``."""


def table_of(tables: Mapping[str, Table[Any]], collection: object) -> Table[Any]:
    """The table of a declaration or name; raises ``UnknownCollection`` naming those there are."""
    name = collection.name if isinstance(collection, Collection) else collection
    table = tables.get(name) if isinstance(name, str) else None
    there = ", ".join(sorted(known for known in tables if not known.startswith("_"))) or "none"
    if table is None or table.system:
        raise UnknownCollection(
            f"This database has no collection {name!r}; it was opened with: {there}."
        )
    if isinstance(collection, Collection) and table.collection is not collection:
        raise UnknownCollection(
            f"The database was opened with another declaration of {name!r} than this one.",
            action="Use the Collection that was passed in open(collections=[...]), or its name.",
        )
    return table
