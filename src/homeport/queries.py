"""Queries: immutable, built step by step, asked by their ends (``all``, ``count``, ...).

A selection is what a whole collection and a query have in common: both can be narrowed, ordered and
asked. A query can also be changed and deleted as a whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from homeport.aggregates import AsyncAggregates
from homeport.core import arrow, operations, paging, updates, writes
from homeport.core.arguments import check_function
from homeport.core.codec import Table
from homeport.core.conditions import Condition
from homeport.core.entries import ExportReport
from homeport.core.hits import Hits
from homeport.core.include import bound
from homeport.core.loading import LoadProgress
from homeport.core.misfits import Fits, Misfit
from homeport.core.paging import Page
from homeport.core.patching import merged_changes
from homeport.core.query import (
    And,
    QueryValue,
    as_condition,
    bind,
    bind_order,
    bind_position,
    parse_filter,
    parse_order,
)
from homeport.core.ranking import CANDIDATES
from homeport.core.relations import Relation, declared
from homeport.core.search import search
from homeport.errors import InvalidQuery, UsageError
from homeport.handles import Handle
from homeport.including import AsyncIncluding
from homeport.interchange.kinds import Format, Place
from homeport.livequery import AsyncLiveQuery
from homeport.runners import AsyncRunner
from homeport.storage.secret import secret_of
from homeport.transfer import AsyncExporter
from homeport.where import AsyncWhere

if TYPE_CHECKING:
    from homeport.core.explanation import Explanation
    from homeport.core.livechange import LiveChange
    from homeport.drivers.subscription import Subscription

T = TypeVar("T")


class AsyncSelection(Handle, AsyncAggregates[T]):
    """Documents of one collection: all of them, or those of a query."""

    __slots__ = ("_runner", "_table", "_value")

    def __init__(self, runner: AsyncRunner, table: Table[T], value: QueryValue) -> None:
        self._runner = runner
        self._table = table
        self._value = value

    def _with(self, value: QueryValue) -> AsyncQuery[T]:
        return AsyncQuery(self._runner, self._table, value)

    # -- building

    @overload
    def where(self, field: str, /) -> AsyncWhere[T]: ...
    @overload
    def where(self, *conditions: Condition | Mapping[str, Any] | bool) -> AsyncQuery[T]: ...
    def where(self, *conditions: Any) -> Any:
        """Only documents that satisfy all of these conditions, too: ``hp.F.depth_m > 2000``, a JSON
        filter such as ``{"depth_m": {"$gt": 2000}}``, or Dexie's chain:
        ``where("depth_m").between(1000, 2000)``.

        Raises ``InvalidQuery`` and ``UnknownField`` at once, before anything is read.
        """
        if len(conditions) == 1 and isinstance(conditions[0], str):
            return AsyncWhere(self._narrowed, conditions[0], self._table.codec)
        value = self._value
        for given in conditions:
            value = value.and_where(_bound(given, self._table))
        return self._with(value)

    def _narrowed(self, condition: Condition) -> AsyncQuery[T]:
        return self._with(self._value.and_where(_bound(condition, self._table)))

    def filter(self, predicate: Callable[[T], object]) -> AsyncQuery[T]:
        """Only documents for which a Python function is true.

        It is asked about every document that the conditions leave; ``limit`` counts those that
        pass.
        """
        return self._with(self._value.with_predicate(predicate))

    def fitting(self, on_misfit: Callable[[Misfit], object] | None = None) -> AsyncQuery[T]:
        """Leave out documents that do not fit the model, where reading them raises
        ``ValidationFailed`` otherwise; in lists, pages, counts, iterations, searches, live queries
        and writes alike. Like ``filter``, it looks at every document.

        on_misfit: called with each ``Misfit`` that is met.
        """
        check_function(on_misfit, "fitting()", none=True)
        return self._with(self._value.with_predicate(Fits(on_misfit)))

    async def misfits(self) -> list[Misfit]:
        """The matching documents that do not fit the model, each with its key, the path and the
        reason; read in chunks, as an iteration is. Empty without a model."""
        found: list[Misfit] = []
        chunks = operations.Chunks(self._table, self._value.with_predicate(Fits(found.append)))
        while (chunk := chunks.next()) is not None:
            for _ in chunks.documents(await self._runner.run(chunk)):
                pass
        return found

    def order_by(self, *fields: Any) -> AsyncQuery[T]:
        """``"name"`` ascending, ``"-depth_m"`` descending, several for ties. Documents without the
        field come last in both directions; the document key breaks the remaining ties."""
        order = bind_order(parse_order(fields), self._table.codec)
        return self._with(self._value.with_bound_order(order))

    def limit(self, rows: int) -> AsyncQuery[T]:
        """At most so many documents."""
        return self._with(self._value.with_limit(rows))

    def offset(self, rows: int) -> AsyncQuery[T]:
        """Leave out the first so many. Writes in between shift pages: prefer ``after``."""
        return self._with(self._value.with_offset(rows))

    def after(self, *position: Any) -> AsyncQuery[T]:
        """Only what comes behind a position: the values of the ``order_by`` fields of the last
        document seen (None where it has no such field), then its key."""
        value = self._value.with_after(position)  # which checks their number
        bound = bind_position(value.order, position, self._table.codec)
        return self._with(value.with_after(bound))

    def reverse(self) -> AsyncQuery[T]:
        """The opposite order; without ``order_by``, by descending key."""
        return self._with(self._value.reversed())

    def include(self, **relations: Relation[Any] | str) -> AsyncIncluding[T]:
        """With related documents of other collections, read with one query for each relation:
        ``include(curves="well_id")`` are the documents of ``curves`` whose ``well_id`` holds the
        key. ``hp.Many`` and ``hp.One`` say more. The last step before ``all``, ``first``, ``one``
        or the iteration.

        Raises ``UnknownCollection`` and ``UnknownField`` at once.
        """
        wanted = declared(relations)
        bound(wanted, self._table)
        return AsyncIncluding(self._runner, self._table, self._value, wanted)

    # -- asking

    def all(self) -> Awaitable[list[T]]:
        """The documents, one snapshot."""
        return self._runner.run(operations.all_of(self._table, self._value, bounded=self._cheap()))

    def first(self) -> Awaitable[T | None]:
        """The first document, None when nothing matches."""
        operation = operations.first(self._table, self._value, bounded=self._cheap(1))
        return self._runner.run(operation)

    def last(self) -> Awaitable[T | None]:
        """The first document of the opposite order, None when nothing matches. With ``limit``,
        ``offset`` or ``after`` it is the last one of that window."""
        operation = operations.last(self._table, self._value)
        return self._runner.run(operation)

    def one(self) -> Awaitable[T]:
        """The only match; raises ``NotFound`` or ``NotUnique``."""
        return self._runner.run(operations.one(self._table, self._value, bounded=self._cheap(2)))

    def count(self) -> Awaitable[int]:
        """How many match."""
        return self._runner.run(operations.count(self._table, self._value))

    def keys(self) -> Awaitable[list[Any]]:
        """The keys of what matches."""
        return self._runner.run(operations.keys_of(self._table, self._value, bounded=self._cheap()))

    def exists(self) -> Awaitable[bool]:
        """Does anything match?"""
        return self._runner.run(operations.exists(self._table, self._value, bounded=self._cheap(1)))

    def search(
        self,
        text: str,
        fields: Iterable[Any] | Mapping[str, float] | None = None,
        limit: int | None = None,
        *,
        where: Condition | Mapping[str, Any] | None = None,
        candidates: int = CANDIDATES,
    ) -> Awaitable[Hits[T]]:
        """The documents that a text finds, best first: words, ``"phrases"``, ``prefix*``, ``OR``,
        ``-without``, ``field:word``, parentheses. Any text is a query; none is an error.

        Args:
            text: what is looked for, as people type it.
            fields: full-text fields, or field → weight (2.0 counts twice); None = all of them.
            limit: so many hits; None = the limit of the query, else 20.
            where: only documents that satisfy this too; of a query, beside its own conditions.
            candidates: at most so many documents are ranked; ``hits.capped`` says whether there
                were more.

        Raises ``InvalidQuery`` (no full-text index, an order beside it, more than 256 words) and
        ``UnknownField``.
        """
        value = self._value
        if where is not None:
            value = value.and_where(_bound(where, self._table))
        return self._runner.run(search(self._table, value, text, fields, limit, candidates))

    def page(self, size: int, token: str | None = None) -> Awaitable[Page[T]]:
        """The first ``size`` documents, or with the ``next`` of an earlier page those behind it:
        ``page = query.page(20)``, then ``query.page(20, page.next)``. Writes in between shift
        nothing."""
        return self._runner.run(paging.page(self._table, self._value, size, token))

    def explain(self, *, run: bool = False) -> Awaitable[Explanation]:
        """How the query is answered: index, range, what is left to check, and what would help.

        run: execute it too, and add how many documents were read and how long that took.
        """
        return self._runner.explain(self._table, self._value, run=run)

    async def to_arrow(self) -> Any:
        """The documents as a ``pyarrow.Table`` whose schema hangs on the model, one snapshot.

        Raises ``MissingDependency`` without pyarrow (``pip install "homeport[arrow]"``),
        ``InvalidDocument`` for a value of another type than the model says.
        """
        arrow.pyarrow()
        texts = await self._runner.run(operations.texts_of(self._table, self._value))
        return arrow.to_table(self._table, texts)

    async def to_polars(self) -> Any:
        """The documents as a ``polars.DataFrame``; see ``to_arrow``."""
        polars = arrow.polars()
        return polars.from_arrow(await self.to_arrow())

    def export_to(
        self,
        target: Place,
        format: Format | None = None,  # noqa: A002 - the word everybody uses
        *,
        progress: Callable[[LoadProgress], object] | None = None,
        delimiter: str | None = None,
        key: str | bytes | None = None,
    ) -> Awaitable[ExportReport]:
        """Write the documents into a file, one snapshot of them → what was written.

        The file appears under its name when it is complete, replacing one that was there. Memory
        is bounded however many there are, and writers go on meanwhile.

        Args:
            target: a path, or a file that is open for writing bytes. ``.gz`` is packed.
            format: ``json``, ``ndjson``, ``csv`` or ``parquet``; None = as the name ends.
            progress: called with a ``LoadProgress`` after each thousand documents.
            delimiter: of CSV; None = a tab for ``.tsv``, else a comma.
            key: the file is sealed: nobody reads it without this passphrase, or these 32 bytes.
                Needs ``pip install 'homeport[crypto]'``.

        Raises ``CannotOpen``, ``QuotaExceeded`` (the disk is full), ``MissingDependency``,
        ``TransactionError`` inside a transaction.
        """
        exporter = AsyncExporter(self._runner, self._table, self._value, progress)
        return exporter.export_to(target, format, delimiter=delimiter, secret=secret_of(key))

    async def __aiter__(self) -> AsyncIterator[T]:
        """Document by document, read in chunks. Each chunk is a snapshot of its own: a document
        that moves in the order meanwhile may come twice or not at all."""
        chunks = operations.Chunks(self._table, self._value)
        while (chunk := chunks.next()) is not None:
            for document in chunks.documents(await self._runner.run(chunk)):
                yield document

    # -- following

    def live(self, *, timeout_s: float | None = None) -> AsyncLiveQuery[T]:
        """Follow the query: iterate over what changes, first the whole result.

        Writes of other threads and processes are seen too. timeout_s ends the iteration when
        nothing changed for so long; None waits for ever.
        """
        return AsyncLiveQuery(self._runner, self._table, self._value, timeout_s)

    def subscribe(
        self,
        fn: Callable[[LiveChange[T]], object],
        *,
        on_error: Callable[[Exception], object] | None = None,
    ) -> Subscription:
        """Call a function with every change, first with the whole result → a handle whose
        ``close()`` ends that, as the end of the database does.

        ``hp.open``: it is called in a thread of this subscription. ``hp.open_async``: on the event
        loop, and it may be a coroutine function. One call at a time; what happens meanwhile comes
        as one change afterwards. An exception that leaves it is given to ``on_error``, else to the
        log ``homeport``, and the next change is delivered all the same.
        """
        live = AsyncLiveQuery(self._runner, self._table, self._value)
        return live.subscribe(fn, on_error)

    def _cheap(self, rows: int | None = None) -> bool:
        value = self._value if rows is None else self._value.with_limit(rows)
        return self._runner.cheap(self._table, value)

    def __contains__(self, item: object) -> bool:
        raise UsageError(
            f"`in` would compare {item!r:.60} with every document of the query.",
            action="Add a condition for it and call exists().",
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._table.name}: {self._value!r}>"


class AsyncQuery(AsyncSelection[T]):
    """Documents of one collection that satisfy conditions, in an order, within a limit.

    ``where`` twice means both, ``or_`` adds what satisfies something else; ``order_by`` and
    ``limit`` twice replace.
    """

    __slots__ = ()

    @overload
    def or_(self, field: str, /) -> AsyncWhere[T]: ...
    @overload
    def or_(self, *conditions: Condition | Mapping[str, Any] | bool) -> AsyncQuery[T]: ...
    def or_(self, *conditions: Any) -> Any:
        """The documents so far, and those that satisfy all of these conditions:
        ``where("age").above(65).or_("member").equals("gold")``. Each document comes once.

        Raises ``InvalidQuery`` when there is nothing to add to, or behind ``filter``.
        """
        if self._value.where is None or self._value.predicates:
            raise InvalidQuery(
                "or_() widens the conditions given before it"
                + (
                    ", and a function given to filter() is none."
                    if self._value.predicates
                    else ", and there are none."
                ),
                action="Write where(...).or_(...), and filter() behind it.",
            )
        if len(conditions) == 1 and isinstance(conditions[0], str):
            return AsyncWhere(self._widened, conditions[0], self._table.codec)
        if not conditions:
            raise InvalidQuery("or_() needs a condition.")
        return self._widened(And(_bound(given, self._table) for given in conditions))

    def _widened(self, condition: Condition) -> AsyncQuery[T]:
        return self._with(self._value.or_where(_bound(condition, self._table)))

    # -- writing

    def delete(self) -> Awaitable[int]:
        """Delete what matches, in one transaction → how many."""
        return self._runner.run(writes.delete_where(self._table, self._value))

    def patch(self, changes: Mapping[str, Any] | None = None, /, **fields: Any) -> Awaitable[int]:
        """Change the named fields of what matches, in one transaction → how many. If one document
        cannot be changed, none is."""
        wanted = merged_changes(changes, fields)
        return self._runner.run(updates.patch_where(self._table, self._value, wanted))

    def update(self, fn: Callable[[T], T]) -> Awaitable[int]:
        """Call ``fn`` with each matching document and store what it returns, in one transaction →
        how many. If one document cannot be stored, none is.

        ``fn`` must return the document and must not use the database.
        """
        return self._runner.run(updates.update_where(self._table, self._value, fn))


def _bound(given: Any, table: Table[Any]) -> Condition:
    if not isinstance(given, Condition):  # asked first: Mapping is an abstract class, and slow
        given = parse_filter(given) if isinstance(given, Mapping) else as_condition(given)
    return bind(given, table.codec)
