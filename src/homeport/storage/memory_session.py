"""The session of the memory store: every request in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from homeport.core import evaluate
from homeport.core.aggregate import Fold, GroupRow, fold_texts
from homeport.core.keys import Encoded, Key, decode, encode_key, order
from homeport.core.requests import (
    Aggregate,
    Changes,
    Count,
    Delete,
    DeleteWhere,
    Find,
    Get,
    GetMany,
    Meta,
    Mode,
    PartResult,
    Put,
    Request,
    RowInfo,
    SetMeta,
    TxInfo,
    Write,
)
from homeport.core.textrequests import Search, Vocabulary
from homeport.core.uniqueness import Value, refusals, values_of
from homeport.errors import HomeportError, QuotaExceeded, TransactionError, UnknownCollection
from homeport.storage.memory_log import read_changes
from homeport.storage.memory_text import search, vocabulary

if TYPE_CHECKING:
    from homeport.core.codec import Codec, Extras, Row, Table
    from homeport.core.query import QueryValue
    from homeport.core.schema import Index
    from homeport.storage.memory import MemoryStore

CHUNK = 1000
CHANGES_KEPT = 10_000
CHANGE_KEYS_MAX = 5_000

Undo = Callable[[], None]
_plain = msgspec.json.Decoder(dict[str, Any]).decode


class StoredRow:
    __slots__ = ("extras", "info", "row")

    def __init__(self, row: Row, extras: Extras | None, info: RowInfo) -> None:
        self.row = row
        self.extras = extras
        self.info = info


class MemorySession:
    """Answers requests on a ``MemoryStore``."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self._tx: TxInfo | None = None
        self._open = False
        self._undo: list[Undo] = []
        self._touched: list[tuple[str, Key]] = []
        self._marks: list[tuple[int, int]] = []
        timed = store.slow.timed
        self._answers: dict[type[Request], Callable[[Any], Any]] = {
            Get: self._get,
            GetMany: lambda r: [self._get(Get(r.table, key)) for key in r.keys],
            Find: timed(self._find),
            Count: timed(lambda r: len(self._entries(r.table, r.query))),
            Aggregate: timed(self._aggregate),
            Search: timed(lambda r: search(r, *self._words(r), self._alive)),
            Vocabulary: lambda r: vocabulary(r, *self._words(r)),
            Write: self._write,
            DeleteWhere: timed(self._delete_where),
            Changes: partial(read_changes, store),
            Meta: self._meta,
        }

    def answer(self, request: Request) -> Any:
        return self._answers[type(request)](request)

    # -- reading

    def _of(self, table: Table[Any]) -> dict[Encoded, StoredRow]:
        try:
            return self.store.rows[table.name]
        except KeyError:
            raise UnknownCollection(f"This database was opened without {table.name!r}.") from None

    def _words(self, request: Search | Vocabulary) -> tuple[Codec[Any], dict[Encoded, StoredRow]]:
        return self.store.indexes.codec(request.table), self._of(request.table)

    def _alive(self, row: StoredRow | None) -> StoredRow | None:
        if row is None or row.info.expires_ms is None:
            return row
        return row if row.info.expires_ms > self.store.clock_ms() else None

    def _row(self, table: Table[Any], key: object) -> StoredRow | None:
        return self._alive(self._of(table).get(encode_key(key)))

    def _get(self, request: Get) -> str | None:
        row = self._row(request.table, request.key)
        return None if row is None else row.row[1]

    def _entries(self, table: Table[Any], query: QueryValue) -> list[tuple[Key, str]]:
        test = None if query.where is None else evaluate.compile_condition(query.where)
        found: list[tuple[tuple[Any, ...], Key, str]] = []
        # A place in the result needs an order to be a place in; the key gives it.
        sorting = bool(query.order or query.offset or query.after is not None)
        for encoded, row in self._of(table).items():
            if self._alive(row) is None:
                continue
            plain = _plain(row.row[1])
            if test is None or test(plain):
                key = decode(encoded)
                at = evaluate.sort_key(query.order, plain, key) if sorting else ()
                found.append((at, key, row.row[1]))
        if sorting:
            found.sort(key=lambda entry: entry[0])
        if query.after is not None:
            behind = evaluate.position_key(query.order, query.after)
            found = [entry for entry in found if behind < entry[0]]
        stop = None if query.limit is None else query.offset + query.limit
        return [(key, text) for _, key, text in found[query.offset : stop]]

    def _find(self, request: Find) -> list[Any]:
        entries = self._entries(request.table, request.query)
        if request.form == "entries":
            return entries
        if request.form == "keys":
            return [key for key, _ in entries]
        texts = [text for _, text in entries]
        if request.form == "texts":
            return texts
        return ["[" + ",".join(texts[at : at + CHUNK]) + "]" for at in range(0, len(texts), CHUNK)]

    def _aggregate(self, request: Aggregate) -> list[GroupRow]:
        fold = Fold(request.groups, request.measures, request.elements)
        return fold_texts(fold, (text for _, text in self._entries(request.table, request.query)))

    def _meta(self, request: Meta) -> str | TxInfo | RowInfo | None:
        if request.name == "tx":
            if self._tx is None:
                raise TransactionError("No write transaction is running.")
            return self._tx
        if request.name == "row":
            assert request.table is not None
            row = self._row(request.table, request.key)
            return None if row is None else row.info
        return self.store.meta.get(request.name)

    # -- writing

    def _write(self, request: Write) -> list[PartResult]:
        if self._tx is None:
            return self._own_transaction(lambda: self._write(request))  # type: ignore[no-any-return]
        results: list[PartResult] = []
        before = self.store.used_bytes
        for part in request.parts:
            if isinstance(part, Put):
                results.append(self._put(part))
                if not part.table.system:
                    self._refuse_growth(before)
            elif isinstance(part, Delete):
                results.append(PartResult(self._delete(part.table, part.keys)))
            else:
                if isinstance(part, SetMeta):
                    self._set_meta(part)
                results.append(PartResult([]))
        return results

    def _own_transaction(self, body: Callable[[], Any]) -> Any:
        self.begin("write")
        try:
            result = body()
            self.commit()
        except BaseException:
            self.rollback()
            raise
        return result

    def _put(self, part: Put) -> PartResult:
        table, rows = part.table, part.rows
        codec = self.store.indexes.codec(table)
        extras: Sequence[Extras | None] = part.extras or [None] * len(rows)
        if self.store.indexes.foreign(table):
            rows = [codec.row_of_text(row[1]) for row in rows]
        if codec.has_extras and (part.extras is None or codec is not table.codec):
            extras = [codec.extras_of_text(row[1]) for row in rows]
        failures: dict[int, HomeportError] = {}
        if part.tokens is None:  # what the server sends is stored (rule G)
            stored, adding = self._of(table), part.mode == "add"
            there = {row[0] for row in rows if self._alive(stored.get(row[0])) is not None}
            failures = refusals(
                table.name,
                codec,
                rows,
                extras,  # type: ignore[arg-type]
                partial(self._holders, table),
                adding=adding,
                existing=there if adding else (),
            )
        keys: list[Key | None] = []
        for i, row in enumerate(rows):
            if i in failures:
                keys.append(None)
                continue
            token = part.tokens[i] if part.tokens is not None else None
            self._store(table, row, extras[i], token)
            keys.append(decode(row[0]))
        return PartResult(keys, failures)

    def _holders(
        self, table: Table[Any], index: Index, values: Sequence[Value]
    ) -> Iterator[tuple[Value, Encoded]]:
        codec = self.store.indexes.codec(table)
        wanted = {tuple(map(order, value)): value for value in values}
        for key, stored in self._of(table).items():
            if self._alive(stored) is None:
                continue
            extras = None if stored.extras is None else [stored.extras]
            for value in values_of(codec, index, [stored.row], extras)[0]:
                found = wanted.get(tuple(map(order, value)))
                if found is not None:
                    yield found, key

    def _store(
        self,
        table: Table[Any],
        row: Row,
        extras: Extras | None,
        token: tuple[str | None, str | None] | None,
    ) -> None:
        assert self._tx is not None
        rows, key, stamp = self._of(table), row[0], self._tx.stamp_ms
        old = rows.get(key)
        alive = self._alive(old)
        was = None if alive is None else alive.info
        info = RowInfo(
            1 if was is None else was.revision + 1,
            stamp if was is None else was.created_ms,
            stamp,
            table.codec.expires_ms(row, stamp),
            token[0] if token is not None else (was.token if was else None),
            token[1] if token is not None else (was.bucket if was else None),
            row[1],
        )
        rows[key] = StoredRow(row, extras, info)
        self._undo.append(_restoring(rows, key, old))
        self._grow(_bytes(row[1]) - (0 if old is None else _bytes(old.row[1])))
        self._touch(table, decode(key))

    def _delete(self, table: Table[Any], keys: Sequence[Key]) -> list[Key | None]:
        rows = self._of(table)
        went: list[Key | None] = []
        for key in keys:
            encoded = encode_key(key)
            old = rows.pop(encoded, None)
            if old is None:
                continue
            self._undo.append(_restoring(rows, encoded, old))
            self._grow(-_bytes(old.row[1]))
            self._touch(table, key)
            if self._alive(old) is not None:
                went.append(key)
        return went

    def _delete_where(self, request: DeleteWhere) -> list[Key | None]:
        if self._tx is None:
            return self._own_transaction(lambda: self._delete_where(request))  # type: ignore[no-any-return]
        keys = [key for key, _ in self._entries(request.table, request.query)]
        return self._delete(request.table, keys)

    def _set_meta(self, part: SetMeta) -> None:
        meta, old = self.store.meta, self.store.meta.get(part.name)
        if part.value is None:
            meta.pop(part.name, None)
        else:
            meta[part.name] = part.value
        self._undo.append(_restoring(meta, part.name, old))

    def _grow(self, by: int) -> None:
        store = self.store
        store.used_bytes += by

        def undo() -> None:
            store.used_bytes -= by

        self._undo.append(undo)

    def _refuse_growth(self, before: int) -> None:
        store = self.store
        if store.max_bytes is not None and store.used_bytes > max(store.max_bytes, before):
            raise QuotaExceeded(
                f"The database in memory has reached its quota of {store.max_bytes:,} bytes.",
                action="Delete documents, or open it with a larger max_bytes.",
                max_bytes=store.max_bytes,
            )

    def _touch(self, table: Table[Any], key: Key) -> None:
        if table.collection.track_changes:
            self._touched.append((table.name, key))

    # -- transactions

    @property
    def in_transaction(self) -> bool:
        return self._open

    def begin(self, mode: Mode, unit: str | None = None, timeout_s: float | None = None) -> None:  # noqa: ARG002 (nobody else can hold it)
        self._open = True
        if mode == "write":
            self.store.refresh_flags()
            self.store.stamp_ms = max(self.store.stamp_ms, self.store.clock_ms())
            self._tx = TxInfo(self.store.stamp_ms, unit)

    def write_row(self, *_: object) -> bool:
        return False  # there is one way

    def commit(self) -> None:
        if self._touched:
            body: dict[str, list[Key] | None] = {}
            for name, key in self._touched:
                keys = body.setdefault(name, [])
                if keys is not None:
                    keys.append(key)
                    if len(keys) > CHANGE_KEYS_MAX:
                        body[name] = None
            self.store.head += 1
            self.store.log.append((self.store.head, body))
            del self.store.log[:-CHANGES_KEPT]
        if self._undo:
            self.store.commits += 1
        self._forget()
        self.store.refresh_flags()

    def rollback(self) -> None:
        self._back_to(0, 0)
        self._forget()

    def _back_to(self, undo: int, touched: int) -> None:
        while len(self._undo) > undo:
            self._undo.pop()()
        del self._touched[touched:]

    def _forget(self) -> None:
        self._open, self._tx = False, None
        self._undo, self._touched, self._marks = [], [], []

    def savepoint(self) -> int:
        self._marks.append((len(self._undo), len(self._touched)))
        return len(self._marks)

    def release(self, depth: int) -> None:
        del self._marks[depth - 1 :]

    def rollback_to(self, depth: int) -> None:
        self._back_to(*self._marks[depth - 1])
        del self._marks[depth - 1 :]

    def interrupt(self) -> None:
        """No statement runs long enough to be interrupted."""

    def close(self) -> None:
        self.rollback()


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _restoring(rows: dict[Any, Any], key: Any, old: Any) -> Undo:
    def undo() -> None:
        if old is None:
            rows.pop(key, None)
        else:
            rows[key] = old

    return undo
