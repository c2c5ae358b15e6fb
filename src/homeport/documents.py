"""The documents of one collection: what ``db[wells]`` and ``tx[wells]`` return."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from homeport.badges import AsyncBadges
from homeport.core import badges, metadata, operations, updates, writes
from homeport.core.badges import Badge
from homeport.core.cellkinds import NULL, CellType
from homeport.core.codec import Table
from homeport.core.keyforms import AnyKey
from homeport.core.loading import CHUNK_ROWS, LoadProgress, LoadReport, OnError
from homeport.core.metadata import DocumentMeta
from homeport.core.patching import merged_changes
from homeport.core.paths import MISSING
from homeport.core.query import EMPTY
from homeport.core.schema import Collection
from homeport.core.suggest import did_you_mean, suggest
from homeport.errors import TransactionError, UsageError
from homeport.ids import new_id
from homeport.interchange.kinds import Format, Place
from homeport.queries import AsyncSelection
from homeport.runners import AsyncRunner
from homeport.sources import AsyncItems
from homeport.storage.secret import secret_of
from homeport.transfer import AsyncLoader

if TYPE_CHECKING:
    from homeport.optimistic import AsyncOptimistic, AsyncOptimisticUpdate

T = TypeVar("T")
D = TypeVar("D")


class AsyncDocuments(AsyncSelection[T]):
    """The documents of one collection: by key, and as a selection that can be narrowed and asked.

    A document that came from here is a value of its own: changing it writes nothing until it is
    put back.
    """

    __slots__ = ("_get", "_optimistic", "_run")

    def __init__(
        self, runner: AsyncRunner, table: Table[T], optimistic: AsyncOptimistic | None = None
    ) -> None:
        super().__init__(runner, table, EMPTY)
        self._optimistic = optimistic
        self._run = runner.run
        self._get: Callable[[AnyKey, Any], Awaitable[Any]] = operations.getter(runner, table)

    @property
    def collection(self) -> Collection[T]:
        """The declaration."""
        return self._table.collection

    # -- one document

    @overload
    def get(self, key: AnyKey) -> Awaitable[T | None]: ...
    @overload
    def get(self, key: AnyKey, default: D) -> Awaitable[T | D]: ...
    def get(self, key: AnyKey, default: Any = None) -> Awaitable[Any]:
        """The document with this key, or ``default``."""
        return self._get(key, default)

    def put(self, document: T) -> Awaitable[Any]:
        """Store a document, replacing the one with its key → the key.

        A document without a key gets one from the collection's ``key_generator``. Raises
        ``InvalidDocument``, ``InvalidKey``, ``ValidationFailed``, ``UniqueViolation``.
        """
        return self._run(writes.put(self._table, document, new_id))

    def add(self, document: T) -> Awaitable[Any]:
        """Store a new document → its key; raises ``KeyExists`` if there is one already."""
        return self._run(writes.put(self._table, document, new_id, "add"))

    def patch(
        self, key: AnyKey, changes: Mapping[str, Any] | None = None, /, **fields: Any
    ) -> Awaitable[T]:
        """Change the named fields and leave the others → the document as it is now.

        Names may be dotted paths (``{"casing.depth_m": 900}``); ``hp.REMOVE`` takes a field away.
        Raises ``NotFound``.
        """
        return self._run(updates.patch(self._table, key, merged_changes(changes, fields)))

    def update(self, key: AnyKey, fn: Callable[[T], T], default: T = MISSING) -> Awaitable[T]:
        """Read the document, call ``fn``, store what it returns, in one transaction → the document.

        No other thread or process writes in between. ``fn`` must return the document and must not
        use the database. Raises ``NotFound`` for a missing key, unless ``default`` is given: then
        ``fn`` gets that.
        """
        return self._run(updates.update(self._table, key, fn, default))

    def delete(self, key: AnyKey) -> Awaitable[int]:
        """Delete the document → 1, or 0 when there was none."""
        return self._run(writes.delete(self._table, key))

    def meta(self, key: AnyKey) -> Awaitable[DocumentMeta | None]:
        """Version, times, checksum, sync status and more; None when there is no such document."""
        return self._run(metadata.meta(self._table, key))

    # -- with the server in mind

    def apply(
        self,
        key: AnyKey,
        change: Mapping[str, Any] | Callable[[T], T] | None,
        default: T = MISSING,
        *,
        name: str = "",
        timeout_s: float | None = 60.0,
    ) -> Awaitable[AsyncOptimisticUpdate]:
        """Show a change of a document at once, and send it only when it is committed → the update.

        Args:
            key: of the document.
            change: names and values as in ``patch``, a function as in ``update``, or None, which
                deletes it.
            default: for a function: what it gets of a missing document.
            name, timeout_s: as in ``db.optimistic.apply``.

        Raises what ``patch`` and ``update`` raise, ``UsageError`` (the collection is not synced on
        this file), and ``TransactionError`` inside a transaction.
        """
        if self._optimistic is None:
            raise TransactionError(
                "An optimistic update is a transaction of its own and has no place in another.",
                action="Call it on the database: db[collection].apply() or db.optimistic.apply().",
            )
        return self._optimistic._one(self._table, key, change, default, name, timeout_s)

    def badge(self, key: AnyKey) -> Awaitable[Badge]:
        """How a document stands with the server: ``local`` (not synced), ``synced``, ``pending``,
        ``processing``, ``optimistic``, ``conflict``, ``failed``, or ``offline`` (it waits, and the
        last attempt to reach the server failed)."""
        return self._run(badges.badge(self._table, self._table.codec.keys.into(key)))

    def badges(self) -> AsyncBadges:
        """Follow the badges of all documents of the collection; close it."""
        return AsyncBadges(self._runner, [self._table])

    # -- many documents

    def get_many(self, keys: Iterable[AnyKey]) -> Awaitable[list[T | None]]:
        """Documents in the order of the keys, None where there is none."""
        return self._run(operations.get_many(self._table, keys))

    def put_many(self, documents: Iterable[T]) -> Awaitable[list[Any]]:
        """Store documents in one transaction → their keys.

        Raises ``BulkError`` when some failed: all others are stored, ``failures`` says which
        position failed and why.
        """
        return self._run(writes.put_many(self._table, documents, new_id))

    def add_many(self, documents: Iterable[T]) -> Awaitable[list[Any]]:
        """As ``put_many``; an existing key is a failure of its position."""
        return self._run(writes.put_many(self._table, documents, new_id, "add"))

    def patch_many(
        self, patches: Mapping[Any, Mapping[str, Any]] | Iterable[tuple[AnyKey, Mapping[str, Any]]]
    ) -> Awaitable[list[Any]]:
        """``{key: changes}`` or (key, changes) pairs, in one transaction → the keys.

        Raises ``BulkError`` when some failed; all others are written.
        """
        return self._run(updates.patch_many(self._table, patches))

    def delete_many(self, keys: Iterable[AnyKey]) -> Awaitable[int]:
        """Delete documents → how many there were."""
        return self._run(writes.delete_many(self._table, keys))

    def load(
        self,
        documents: AsyncItems[T],
        *,
        mode: Literal["put", "add"] = "put",
        on_error: OnError = "raise",
        chunk: int = CHUNK_ROWS,
        progress: Callable[[LoadProgress], object] | None = None,
        total: int | None = None,
        resume: str | None = None,
    ) -> Awaitable[LoadReport]:
        """Store very many documents, chunk by chunk → what was done.

        Each chunk is a transaction: readers see what is there, other writers get their turn, and
        after an error or a crash whole chunks are stored. The indexes of an empty collection are
        built at the end.

        Args:
            documents: any iterable, read once; on an event loop an async iterable too.
            mode: ``put`` replaces existing documents, ``add`` makes them failures.
            on_error: ``raise`` stops at the first document that cannot be stored, ``collect`` goes
                on and lists such documents in the report.
            chunk: documents of one transaction.
            progress: called with a ``LoadProgress`` after each chunk.
            total: how many documents there are, if that is known and ``len()`` does not say it.
            resume: a name for this load. If it ends early, by an error or a crash, the next call
                with the same name and the same documents goes on where it ended.

        Raises ``LoadFailed``, which says how many are stored and how to go on; ``QuotaExceeded``;
        ``TransactionError`` inside a transaction.
        """
        options = {"mode": mode, "on_error": on_error, "chunk": chunk, "resume": resume}
        loader = AsyncLoader(self._runner, self._table, progress, total=total, **options)
        return loader.load(documents)

    def import_from(
        self,
        source: Place,
        format: Format | None = None,  # noqa: A002 - the word everybody uses
        *,
        mode: Literal["put", "add"] = "put",
        on_error: OnError = "raise",
        chunk: int = CHUNK_ROWS,
        progress: Callable[[LoadProgress], object] | None = None,
        resume: bool = False,
        encoding: str | None = None,
        delimiter: str | None = None,
        null: str | None = NULL,
        types: Mapping[str, CellType] | None = None,
        key: str | bytes | None = None,
    ) -> Awaitable[LoadReport]:
        """Load the documents of a file, as ``load`` does → what was done.

        Args:
            source: a path, or a file that is open for reading bytes. ``.gz`` is unpacked.
            format: ``json`` (an array), ``ndjson`` (a document on each line), ``csv`` or
                ``parquet``; None = as the name ends (``.json .ndjson .jsonl .csv .tsv .parquet``).
            mode, on_error, chunk, progress: as in ``load``; failures name the line.
            resume: go on where an interrupted import of the same, unchanged file ended.
            encoding: of the text; None = what its first bytes say, else UTF-8.
            delimiter: of CSV; None = a tab for ``.tsv``, else a comma.
            null: the CSV cell that means null; None = none does.
            types: CSV column → ``text number integer boolean json``, where the rule of the guide
                (only what loses nothing is taken as a number) says something else.
            key: of a sealed file (``export_to``): its passphrase, or 32 bytes.

        Raises ``LoadFailed``, ``FormatError``, ``CannotOpen``, ``MissingDependency``,
        ``KeyRequired``, ``WrongKey``, ``SealBroken``, and as ``load``.
        """
        loader = AsyncLoader(
            self._runner, self._table, progress, mode=mode, on_error=on_error, chunk=chunk
        )
        return loader.import_from(
            source,
            format,
            resume=resume,
            encoding=encoding,
            delimiter=delimiter,
            null=null,
            types=types or {},
            secret=secret_of(key),
        )

    def clear(self) -> Awaitable[int]:
        """Delete all documents → how many there were."""
        return self._run(writes.delete_where(self._table, EMPTY))

    def __contains__(self, key: object) -> bool:
        raise UsageError(
            f"`in` would compare {key!r:.60} with every document of {self._table.name}.",
            action="Use get(key) to look for a key, where(...).exists() for anything else.",
        )

    # -- words

    def suggest(self, prefix: str, limit: int = 10) -> Awaitable[list[str]]:
        """Words of the full text that begin as the last word typed does, those of most documents
        first; as they are indexed, without case and diacritics. Raises ``InvalidQuery``."""
        return self._run(suggest(self._table, prefix, limit))

    def did_you_mean(self, text: str) -> Awaitable[str | None]:
        """A search text with each word that no document holds replaced by the nearest one that
        some do (one slip, from six letters two); None when there is nothing to replace. Raises
        ``InvalidQuery``."""
        return self._run(did_you_mean(self._table, text))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._table.name}>"
