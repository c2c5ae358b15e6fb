"""The requests a plan may yield. What answers them is in ``core.stores``.

A *plan* is a generator: it yields requests, a driver answers each with ``send``, and the plan's
return value is the result of the operation. An ``Operation`` is a plan with a header that says what
the driver must know before the first request: does it write, is it one request, which collections.

Rules of a plan: no clock, no randomness, no cursor kept, no yield per row, no user code between two
writes, and nothing is yielded after the last write only to report.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

import msgspec

if TYPE_CHECKING:
    from homeport.core.aggregate import Measure
    from homeport.core.codec import Extras, Row, Table
    from homeport.core.keys import Key
    from homeport.core.query import QueryValue
    from homeport.errors import HomeportError

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Mode: TypeAlias = Literal["read", "write"]
Form: TypeAlias = Literal["texts", "text", "keys", "entries"]


class Request:
    """Base of the eleven (those of full text are in ``textrequests``); only these may be yielded
    by a plan."""

    __slots__ = ()


class Get(Request):
    """One document by key → its JSON text, or None."""

    __slots__ = ("key", "table")

    def __init__(self, table: Table[Any], key: Key) -> None:
        self.table = table
        self.key = key


class GetMany(Request):
    """Documents by key → list of JSON text or None, in the order asked."""

    __slots__ = ("keys", "table")

    def __init__(self, table: Table[Any], keys: Sequence[Key]) -> None:
        self.table = table
        self.keys = keys


class Find(Request):
    """The rows of a query, in its order, within its limit.

    form: ``texts`` → list of JSON texts; ``text`` → list of JSON array texts, each one chunk of at
    most 1,000 documents; ``keys`` → list of document keys; ``entries`` → list of (key, JSON text).
    Python predicates of the query are not evaluated here. Without an order the rows come in the
    store's own order, and a limit takes any of them; an offset and ``after`` follow the key.
    """

    __slots__ = ("form", "query", "table")

    def __init__(self, table: Table[Any], query: QueryValue, form: Form) -> None:
        self.table = table
        self.query = query
        self.form = form


class Count(Request):
    """How many documents match → int."""

    __slots__ = ("query", "table")

    def __init__(self, table: Table[Any], query: QueryValue) -> None:
        self.table = table
        self.query = query


class Aggregate(Request):
    """Aggregates of what matches, by groups → list of ``aggregate.GroupRow`` in order; without
    group fields exactly one. What they mean is said in ``core.aggregate``; an engine that cannot
    answer exactly folds the rows with ``aggregate.Fold``.

    elements: those of the group fields whose arrays are taken apart. Python predicates of the query
    are not evaluated here.
    """

    __slots__ = ("elements", "groups", "measures", "query", "table")

    def __init__(
        self,
        table: Table[Any],
        query: QueryValue,
        groups: Sequence[str],
        measures: Sequence[Measure],
        elements: Collection[str] = (),
    ) -> None:
        self.table = table
        self.query = query
        self.groups = groups
        self.measures = measures
        self.elements = elements


class Put:
    """Part of a write: documents of one table.

    rows: from ``Codec``, with their keys. extras: multi-entry and full-text values beside each row,
    or None when the table has neither. mode ``add`` refuses existing keys, ``put`` replaces.
    olds: the stored texts before the write when the plan has read them already (saves the store's
    own read), else None. tokens: (version token, bucket) of each row, for rows that came from the
    server; None leaves what is stored.
    """

    __slots__ = ("extras", "mode", "olds", "rows", "table", "tokens")

    def __init__(
        self,
        table: Table[Any],
        rows: Sequence[Row],
        extras: Sequence[Extras] | None = None,
        *,
        mode: Literal["put", "add"] = "put",
        olds: Sequence[str | None] | None = None,
        tokens: Sequence[tuple[str | None, str | None]] | None = None,
    ) -> None:
        self.table = table
        self.rows = rows
        self.extras = extras
        self.mode = mode
        self.olds = olds
        self.tokens = tokens


class Delete:
    """Part of a write: keys of one table; a missing key is silent."""

    __slots__ = ("keys", "olds", "table")

    def __init__(
        self, table: Table[Any], keys: Sequence[Key], *, olds: Sequence[str | None] | None = None
    ) -> None:
        self.table = table
        self.keys = keys
        self.olds = olds


class SetMeta:
    """Part of a write: one named JSON text beside the documents; None removes it."""

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: str | None) -> None:
        self.name = name
        self.value = value


class Indexes:
    """Part of a write: secondary indexes of a collection that is being loaded.

    ``defer`` leaves them away while the collection has no documents, to be built behind the load
    → a result with keys when they are left away (repeated, it says that the load is alive).
    ``build`` builds one of them → a result with keys when there are more. Queries answer the same
    at any time. A store to which this means nothing answers with an empty result.
    """

    __slots__ = ("action", "table")

    def __init__(self, table: Table[Any], action: Literal["defer", "build"]) -> None:
        self.table = table
        self.action = action


Part: TypeAlias = Put | Delete | SetMeta | Indexes


class PartResult:
    """What one part did.

    keys: for Put the encoded-back document key of each row, None where that row failed; for Delete
    the keys that existed. failures: position in the part → error, every other row was written.
    """

    __slots__ = ("failures", "keys")

    def __init__(
        self, keys: list[Key | None], failures: dict[int, HomeportError] | None = None
    ) -> None:
        self.keys = keys
        self.failures: dict[int, HomeportError] = {} if failures is None else failures


class Write(Request):
    """The whole effect of an operation in one request → list of PartResult, one per part.

    The store appends the change row of the transaction by itself (at commit), for tables with
    ``track_changes``. A row that violates a unique index or, in mode ``add``, exists already is
    reported in ``failures`` and all others are written; every other error writes nothing.
    """

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts


class DeleteWhere(Request):
    """Delete what a query matches → the keys that went."""

    __slots__ = ("query", "table")

    def __init__(self, table: Table[Any], query: QueryValue) -> None:
        self.table = table
        self.query = query


class Changes(Request):
    """What changed after change number ``after`` → ``ChangeSet``.

    after None asks for the head alone. since_ms: a document whose time came after that moment has
    changed too (it is there no more).
    """

    __slots__ = ("after", "since_ms", "tables")

    def __init__(
        self, after: int | None, tables: Sequence[Table[Any]], since_ms: int | None = None
    ) -> None:
        self.after = after
        self.tables = tables
        self.since_ms = since_ms


class ChangeSet:
    """Answer of ``Changes``. keys: table name → document keys, or None when the log no longer
    reaches back to ``after`` (run the query again). at_ms: the clock of this answer. expires_ms:
    when the next document of the tables expires, None if none will."""

    __slots__ = ("at_ms", "expires_ms", "head", "keys")

    def __init__(
        self,
        head: int,
        keys: dict[str, list[Key]] | None,
        at_ms: int = 0,
        expires_ms: int | None = None,
    ) -> None:
        self.head = head
        self.keys = keys
        self.at_ms = at_ms
        self.expires_ms = expires_ms


class Meta(Request):
    """A named value of the file → str | None; the name ``tx`` → the running ``TxInfo``;
    ``row`` with table and key → ``RowInfo | None`` (metadata of one document)."""

    __slots__ = ("key", "name", "table")

    def __init__(self, name: str, table: Table[Any] | None = None, key: Key | None = None) -> None:
        self.name = name
        self.table = table
        self.key = key


class TxInfo(msgspec.Struct):
    """The running write transaction.

    stamp_ms: clock of the commit, made under the write lock, never goes back within a file.
    unit: id of the unit for an explicit transaction, None for a single operation.
    changes, bytes: size of the unit so far (kept by the capture, checked against its limits).
    layer: what it writes is an optimistic update (``core.layers``).
    """

    stamp_ms: int
    unit: str | None = None
    changes: int = 0
    bytes: int = 0
    layer: bool = False


class RowInfo:
    """Metadata columns of one row. revision counts local writes from 1; times in ms since 1970."""

    __slots__ = ("bucket", "created_ms", "expires_ms", "modified_ms", "revision", "text", "token")

    def __init__(
        self,
        revision: int,
        created_ms: int,
        modified_ms: int,
        expires_ms: int | None,
        token: str | None,
        bucket: str | None,
        text: str,
    ) -> None:
        self.revision = revision
        self.created_ms = created_ms
        self.modified_ms = modified_ms
        self.expires_ms = expires_ms
        self.token = token
        self.bucket = bucket
        self.text = text


Plan: TypeAlias = Generator[Request, Any, R]


class Operation(msgspec.Struct, Generic[R_co], gc=False, eq=False):
    """A plan with its header.

    plan: a generator, or, when one request is all there is to it, that request. mode: ``write``
    makes the driver take the write lock before the first request. single: one request, so a read
    needs no transaction of its own. scope: the tables it may touch (IndexedDB must name them to
    begin); empty means all, or that of the one request. bounded: its cost does not grow with the
    collection, so an event loop may step it in place. finish: applied to the plan's result after
    the commit and outside the lock; it decodes, filters by user code, or raises for rows that
    failed alone (raising there undoes nothing). documents: it makes the list of documents of the
    answer, and does nothing else.

    A Struct, because one is made for every call.
    """

    plan: Plan[Any] | Request
    mode: Mode
    single: bool = False
    scope: tuple[Table[Any], ...] = ()
    bounded: bool = False
    finish: Callable[[Any], R_co] | None = None
    documents: bool = False

    def finished(self, result: Any) -> R_co:
        """The result of the operation from that of its plan."""
        return result if self.finish is None else self.finish(result)


class RowWrite(Operation[R_co], gc=False, eq=False):
    """The write of one row: the one that is called most often, so drivers know it by its type. A
    session may have a short way for it (``write_row``); ``plan`` is the long one."""

    mode: Mode = "write"
    table: Any = None
    row: Row = ()


class RowsWrite(Operation[R_co], gc=False, eq=False):
    """The write of rows of one table, kept beside its ``plan`` for engines that can do all of it in
    one step when nothing has to be decided in between. many: its result is the ``PartResult``, else
    the key of its one row."""

    mode: Mode = "write"
    table: Any = None
    rows: Sequence[Row] = ()
    extras: Sequence[Extras] | None = None
    adding: bool = False
    many: bool = False


class Lookup(Operation[R_co], gc=False, eq=False):
    """One request for one text, decoded or replaced by a default: the operation that is called most
    often, so drivers know it by its type."""

    # A frozen kind of its own: nothing assigns plans of the other kind to it.
    plan: Request  # pyright: ignore[reportIncompatibleVariableOverride]
    mode: Mode = "read"
    single: bool = True
    bounded: bool = True
    decode: Callable[[str], Any] = str
    default: Any = None

    def finished(self, result: Any) -> R_co:
        found: R_co = self.default if result is None else self.decode(result)
        return found
