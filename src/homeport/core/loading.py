"""Bulk loads: many documents in chunks, each chunk a transaction of its own.

A load is not one transaction. After every chunk readers see what is there, other writers get their
turn, and a crash keeps whole chunks. With a name (``resume``) the number of documents taken is
written in the transaction of each chunk, so that a repeated load goes on exactly behind them.

Secondary indexes of a collection that is empty at the start are built at the end, in one pass each:
sorting once costs a third of finding the place of every entry. Until then queries scan, and answer
the same. That is the store's business (``Indexes``); one without such indexes does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

from homeport.core.arguments import is_unicode
from homeport.core.requests import Indexes, Meta, Operation, Plan, SetMeta, Write
from homeport.core.writes import WriteMode, encoded, store
from homeport.errors import FormatError, HomeportError, LoadFailed, UsageError

if TYPE_CHECKING:
    from homeport.core.codec import Extras, Row, Table
    from homeport.core.requests import PartResult

T = TypeVar("T")

CHUNK_ROWS: Final = 10_000
"""Documents of one transaction of a load. More than the log names one by one, so live queries take
a chunk as "anything may have changed" instead of storing each key twice."""

SYNCED_ROWS: Final = 1_000
"""The same where every document is queued for the server too."""

CHUNK_BYTES: Final = 16 * 1024 * 1024
"""A chunk ends here even if it has fewer documents: large ones must not fill the memory."""

SLICE_ROWS: Final = 500
"""So many documents are taken from the source at a time."""

FAILURES_KEPT: Final = 1_000

META_LOAD = "load."

OnError: TypeAlias = Literal["raise", "collect"]
Phase: TypeAlias = Literal["loading", "indexing", "writing", "done"]


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a load is.

    Attributes:
        rows: documents stored so far, without those that an earlier, resumed run had stored.
        bytes: of their JSON texts.
        failed: documents that could not be stored.
        seconds: since the start.
        total: documents to be loaded, where that is known; None = not.
        phase: ``loading``, ``indexing`` (indexes are being built behind the documents), ``writing``
            (an export), ``done``.
        file_bytes, file_size: how much of the file has been read, of how much; None where no file
            or no size is known.
    """

    rows: int
    bytes: int
    failed: int
    seconds: float
    total: int | None
    phase: Phase
    file_bytes: int | None = None
    file_size: int | None = None

    @property
    def rows_per_s(self) -> float:
        """Documents per second."""
        return self.rows / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load did.

    Attributes:
        rows: documents stored by this call. bytes: of their JSON texts. seconds: that it took.
        skipped: documents passed over because an earlier run of the same name had taken them.
        failed: how many could not be stored (``on_error="collect"``).
        failures: (position in the source from 0, error) of the first thousand of these; of a file
            its line from 1.
    """

    rows: int
    bytes: int
    seconds: float
    skipped: int
    failed: int
    failures: tuple[tuple[int, HomeportError], ...]

    @property
    def rows_per_s(self) -> float:
        """Documents per second."""
        return self.rows / self.seconds if self.seconds else 0.0


class Mark(msgspec.Struct):
    """How far the load of a name has come: documents taken from its source."""

    taken: int


class Loading(Generic[T]):
    """The state of one load: what was taken, what waits for the next transaction.

    Its driver calls ``start``, then ``add`` and ``flush`` in turns, ``end`` at the end, and
    ``build`` until that says that no index is left to build, whatever happened before.
    """

    def __init__(
        self,
        table: Table[T],
        new_key: Callable[[], str],
        *,
        chunk: int = CHUNK_ROWS,
        mode: WriteMode = "put",
        on_error: OnError = "raise",
        total: int | None = None,
        resume: str | None = None,
        file: str | None = None,
    ) -> None:
        """file: name of the file that the documents come from; places are its lines then."""
        check_options(chunk, mode, on_error, total, resume)
        self.table = table
        self._file = file
        self.skipped = 0
        self.deferred = False
        self.failures: list[tuple[int, HomeportError]] = []
        self.failed = 0
        self._new_key = new_key
        self._chunk = chunk
        self._mode: WriteMode = mode
        self._collects = on_error == "collect"
        self._total = total
        self._mark = None if resume is None else f"{META_LOAD}{table.name}.{resume}"
        self._rows: list[Row] = []
        self._extras: list[Extras] | None = [] if table.codec.has_extras else None
        self._places: list[int] = []
        self._bytes = 0
        self._taken = 0
        self._stored = 0
        self._stored_bytes = 0
        self._stored_taken = 0

    # -- from the source

    @property
    def full(self) -> bool:
        """Is it time to write what was added?"""
        limit = min(self._chunk, SYNCED_ROWS) if self.table.synced else self._chunk
        return len(self._rows) >= limit or self._bytes >= CHUNK_BYTES

    @property
    def waiting(self) -> bool:
        """Is there anything that is not written yet, or not counted?"""
        return self._taken > self._stored_taken

    @property
    def wanted(self) -> int:
        """How many documents to take from the source next."""
        return max(1, min(SLICE_ROWS, self._chunk - len(self._rows)))

    def skip(self, count: int) -> None:
        """So many documents of the source were passed over."""
        self._taken = self._stored_taken = count

    def add(self, documents: Sequence[T]) -> None:
        """Encode documents for the next transaction. Raises ``LoadFailed``."""
        rows, extras, places = self._rows, self._extras, self._places
        table, new_key = self.table, self._new_key
        row_of = table.codec.row
        size = 0
        for document in documents:
            place = self._taken
            self._taken += 1
            try:
                row = row_of(document)
                if row[0] is None or extras is not None:
                    row, extra = encoded(table, document, new_key)
                    if extras is not None:
                        extras.append(extra)  # type: ignore[arg-type]
            except HomeportError as error:
                self._fail(place, error)
                continue
            rows.append(row)
            places.append(place)
            text = row[1]
            size += len(text) if text.isascii() else len(text.encode())
        self._bytes += size

    def add_located(self, items: Sequence[tuple[int, dict[str, Any] | HomeportError]]) -> None:
        """The same for (place, document in its stored form, or why there is none)."""
        codec, new_key = self.table.codec, self._new_key
        for place, item in items:
            self._taken += 1
            if isinstance(item, HomeportError):
                self._fail(place, item)
                continue
            try:
                row = codec.row_of_plain(item)
                if row[0] is None:
                    row = codec.row_of_plain({**item, codec.key: new_key()})
            except HomeportError as error:
                self._fail(place, error)
                continue
            text = row[1]
            self._rows.append(row)
            self._places.append(place)
            if self._extras is not None:
                self._extras.append(codec.extras_of_text(text))
            self._bytes += len(text) if text.isascii() else len(text.encode())

    def _fail(self, place: int, error: HomeportError) -> None:
        if not self._collects:
            raise self._stopped(place, error) from error
        self.failed += 1
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append((place, error))

    def _stopped(self, place: int, error: HomeportError) -> LoadFailed:
        done, name = self._stored_taken, self.table.name
        if self._file is not None:
            again = "import it again with resume=True"
            what = f"{self._file}, line {place} cannot be stored in {name}: {error.message}"
            if isinstance(error, FormatError):
                what = error.message
        else:
            again = "call load() again with the same resume= name"
            what = f"Document {place} (counted from 0) cannot be stored in {name}: {error.message}"
        if self._mark is None:
            again = f"go on behind them (itertools.islice(documents, {done}, None))"
            if self._file is not None:
                again = "import it again"
        return LoadFailed(
            f"{what} The {done:,} before its chunk are stored.",
            action=f"Correct it and {again}, or pass on_error='collect' to store all others. "
            f"{error.action}".strip(),
            position=place,
            loaded=done,
        )

    # -- operations

    def start(self) -> Operation[int]:
        """→ how many documents of the source to pass over; gets the store ready."""
        return Operation(self._start(), "write", False, (self.table,))

    def _start(self) -> Plan[int]:
        text = None
        if self._mark is not None:
            text = yield Meta(self._mark)
        answers: list[PartResult] = yield Write((Indexes(self.table, "defer"),))
        self.deferred = bool(answers[0].keys)
        if text is not None:
            self.skipped = msgspec.json.decode(text, type=Mark).taken
        return self.skipped

    def flush(self) -> Operation[dict[int, HomeportError]]:
        """Write what was added, in one transaction → its failures, for ``flushed``. Raises
        ``LoadFailed`` and errors of storage; then nothing of this chunk is written."""
        return Operation(self._flush(), "write", False, (self.table,))

    def _flush(self) -> Plan[dict[int, HomeportError]]:
        failures: dict[int, HomeportError] = {}
        if self._rows:
            result = yield from store(self.table, self._rows, self._extras, self._mode)
            failures = result.failures
        if failures and not self._collects:
            n, error = min(failures.items())
            raise self._stopped(self._places[n], error) from error
        if self.deferred:
            yield Write((Indexes(self.table, "defer"),))
        if self._mark is not None:
            text = msgspec.json.encode(Mark(self._taken)).decode()
            yield Write((SetMeta(self._mark, text),))
        return failures

    def flushed(self, failures: dict[int, HomeportError]) -> None:
        """The transaction of ``flush`` is committed: count what was in it."""
        for n, error in sorted(failures.items()):
            self._fail(self._places[n], error)
        lost = sum(len(self._rows[n][1].encode()) for n in failures)
        self._stored += len(self._rows) - len(failures)
        self._stored_bytes += self._bytes - lost
        self._stored_taken = self._taken
        self._rows, self._places, self._bytes = [], [], 0
        self._extras = None if self._extras is None else []

    def end(self) -> Operation[None]:
        """The source is at its end: forget how far the load of this name was."""
        return Operation(self._end(), "write", False, (self.table,))

    def _end(self) -> Plan[None]:
        if self._mark is not None:
            yield Write((SetMeta(self._mark, None),))

    @property
    def named(self) -> bool:
        """Does it have a name, under which it can be resumed?"""
        return self._mark is not None

    def build(self) -> Operation[bool]:
        """Build one of the indexes that ``start`` deferred → are there more?"""
        return Operation(self._build(), "write", False, (self.table,))

    def _build(self) -> Plan[bool]:
        answers: list[PartResult] = yield Write((Indexes(self.table, "build"),))
        return bool(answers[0].keys)

    # -- what to tell

    def progress(self, seconds: float, phase: Phase = "loading") -> LoadProgress:
        """How far it is; ``seconds`` since the start."""
        return LoadProgress(
            self._stored, self._stored_bytes, self.failed, seconds, self._total, phase
        )

    def report(self, seconds: float) -> LoadReport:
        """What was done."""
        return LoadReport(
            self._stored,
            self._stored_bytes,
            seconds,
            self.skipped,
            self.failed,
            tuple(self.failures),
        )


def check_options(
    chunk: int, mode: str, on_error: str, total: int | None, resume: str | None
) -> None:
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise UsageError(f"chunk is a number of documents from 1, not {chunk!r}.")
    if mode not in ("put", "add"):
        raise UsageError(f"mode is 'put' or 'add', not {mode!r}.")
    if on_error not in ("raise", "collect"):
        raise UsageError(f"on_error is 'raise' or 'collect', not {on_error!r}.")
    if total is not None and (not isinstance(total, int) or total < 0):
        raise UsageError(f"total is a number of documents, not {total!r}.")
    named = isinstance(resume, str) and 0 < len(resume) <= 200 and is_unicode(resume)
    if resume is not None and not named:
        raise UsageError(f"resume is a name of 1 to 200 characters, not {resume!r:.60}.")


def unfinished(marks: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Named loads that have not come to their end, of the named values of a file."""
    found = []
    for name, text in marks:
        collection, _, own = name.removeprefix(META_LOAD).partition(".")
        taken = msgspec.json.decode(text, type=Mark).taken
        found.append({"collection": collection, "name": own, "taken": taken})
    return found
