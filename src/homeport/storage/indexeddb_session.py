"""The session of the IndexedDB store: every request as steps of one transaction.

A method that needs the engine is a generator: it yields what ``indexeddb.js`` is to do and is sent
the answer. Whoever steps it does so inside the callbacks of the transaction, so there is nothing in
here to wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec

from homeport.core.keys import Encoded, Key, decode, encode, encode_key
from homeport.core.requests import (
    Aggregate,
    Changes,
    ChangeSet,
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
    RowsWrite,
    RowWrite,
    SetMeta,
    TxInfo,
    Write,
)
from homeport.core.textrequests import Found, Search, Vocabulary
from homeport.core.uniqueness import Value, refusals, values_of
from homeport.errors import HomeportError, TransactionError, UnknownCollection
from homeport.storage.indexeddb_cache import NO_ROW
from homeport.storage.indexeddb_kept import kept_answer
from homeport.storage.indexeddb_read import Packed, Reads
from homeport.storage.indexeddb_schema import FLAGS
from homeport.storage.indexeddb_text import Texts
from homeport.storage.indexeddb_wire import ask, encoded_of, to_wire, wire_row
from homeport.storage.indexeddb_write import (
    CHANGE_KEYS_MAX,
    CHANGES_KEPT,
    CHANGES_PRUNE_EVERY,
    several,
    write_at_once,
)

if TYPE_CHECKING:
    from homeport.core.codec import Extras, Table
    from homeport.core.schema import Index
    from homeport.storage.indexeddb import IndexedDBStore

R = TypeVar("R")
Stepped: TypeAlias = Generator[str, str, R]

_encode_json = msgspec.json.Encoder().encode


class IndexedDBSession:
    """Answers requests inside the transaction that its driver has open."""

    def __init__(self, store: IndexedDBStore) -> None:
        self.store = store
        self.reads = Reads(store)
        self.texts = Texts(self.reads)
        self._mode: Mode | None = None
        self._tx: TxInfo | None = None
        self._notes: list[tuple[str, Key]] = []
        self._marks: list[tuple[int, int]] = []
        self._declared = False
        self._row = 0
        self._answers: dict[type[Request], Callable[[Any], Stepped[Any]]] = {
            Get: self.reads.get,
            GetMany: self.reads.get_many,
            Find: self.reads.find,
            Packed: self.reads.packed,
            Count: self.reads.count,
            Aggregate: self.reads.aggregate,
            Search: self._search,
            Vocabulary: self._vocabulary,
            Changes: self._changes,
            Meta: self._meta,
            Write: self._write,
            DeleteWhere: self._delete_where,
        }

    def answer(self, request: Request) -> Stepped[Any]:
        """Steps whose value is the answer. A write outside ``begin`` is its own transaction."""
        if self._mode != "write":
            kept = kept_answer(self.store, self.reads, request, self._answers[type(request)])
            if kept is not None:
                return kept
        steps = self._answers[type(request)](request)
        if self._mode is None and isinstance(request, (Write, DeleteWhere)):
            return self._own(steps)
        return steps

    def _own(self, steps: Stepped[R]) -> Stepped[R]:
        yield from self.begin("write")
        try:
            result = yield from steps
            yield from self.commit()
        finally:
            self.forget()
        return result

    # -- transactions

    @property
    def in_transaction(self) -> bool:
        return self._mode is not None

    def begin(
        self,
        mode: Mode,
        unit: str | None = None,
        timeout_s: float | None = None,  # noqa: ARG002 - IndexedDB queues transactions itself
    ) -> Stepped[None]:
        """Begin in the open engine transaction: a write notices what other tabs changed."""
        if mode == "write":
            (((epoch, synced), (head, stamp_ms)),) = yield from ask({"op": "begin", "get": FLAGS})
            self._row = head + 1
            self.store.notice(epoch, synced)
            self._tx = TxInfo(self.store.next_stamp(stamp_ms), unit)
            self.reads.now_ms = self._tx.stamp_ms
        self._mode = mode

    def commit(self) -> Stepped[None]:
        """Append the change row; the driver then lets the engine commit."""
        written = NO_ROW
        if (self._notes or self._declared) and self._tx is not None:
            # A declaration has a row without documents: it tells other tabs that something is new.
            body: dict[str, dict[Encoded | None, Key]] = {}
            for name, key in self._notes:
                body.setdefault(name, {})[encode(key)] = key
            logged = {
                name: list(keys.values()) if len(keys) <= CHANGE_KEYS_MAX else None
                for name, keys in body.items()
            }
            written = self._row, logged
            prune = self._row % CHANGES_PRUNE_EVERY == 0
            yield from ask(
                {
                    "op": "log",
                    "stamp": self._tx.stamp_ms,
                    "at": 1,
                    "drop": self._row - CHANGES_KEPT if prune else None,
                },
                texts=[_encode_json(logged).decode()],
            )
        if self._declared:
            (epoch, synced), *_ = yield from ask({"op": "named", "get": FLAGS, "set": []})
            self.store.notice(epoch, synced)
        self.store.logged = written
        self.forget()

    def rollback(self) -> Stepped[None]:
        """The driver aborts the transaction; there is nothing to do before."""
        self.forget()
        return
        yield

    def forget(self) -> None:
        self._mode = self._tx = self.reads.now_ms = None
        self._notes, self._marks = [], []
        self._declared = False

    def savepoint(self) -> Stepped[int]:
        (mark,) = yield from ask({"op": "mark"})
        self._marks.append((mark, len(self._notes)))
        return len(self._marks)

    def release(self, depth: int) -> Stepped[None]:
        del self._marks[depth - 1 :]
        return
        yield

    def rollback_to(self, depth: int) -> Stepped[None]:
        mark, notes = self._marks[depth - 1]
        del self._marks[depth - 1 :]
        del self._notes[notes:]
        yield from ask({"op": "back", "to": mark})

    def _search(self, request: Search) -> Stepped[Found]:
        return (yield from self.texts.search(request, writing=self._mode == "write"))

    def _vocabulary(self, request: Vocabulary) -> Stepped[list[tuple[str, int]]]:
        return (yield from self.texts.vocabulary(request, writing=self._mode == "write"))

    # -- log and named values

    def _changes(self, request: Changes) -> Stepped[ChangeSet]:
        return (yield from self.reads.changes(request))

    def _meta(self, request: Meta) -> Stepped[str | TxInfo | RowInfo | None]:
        if request.name == "tx":
            if self._tx is None:
                raise TransactionError("No write transaction is running.")
            return self._tx
        if request.name == "row":
            assert request.table is not None
            return (yield from self.reads.row(request.table, request.key))
        ((value,),) = yield from ask({"op": "named", "get": [request.name], "set": []})
        return value  # type: ignore[no-any-return]

    # -- writing

    def write_rows(self, operation: RowsWrite[Any] | RowWrite[Any]) -> Stepped[PartResult | None]:
        """A transaction that is one step, from its beginning to its commit. None: it has to be done
        in several."""
        table = operation.table
        self.store.known(table)
        if isinstance(operation, RowWrite):
            return write_at_once(self.store, table, (operation.row,), None)
        if operation.adding:
            return several()
        return write_at_once(self.store, table, operation.rows, operation.extras)

    def _write(self, request: Write) -> Stepped[list[PartResult]]:
        for part in request.parts:
            if not isinstance(part, SetMeta):
                self.store.known(part.table)
        results: list[PartResult] = []
        for part in request.parts:
            if isinstance(part, Put):
                results.append((yield from self._put(part)))
            elif isinstance(part, Delete):
                results.append(PartResult((yield from self._delete(part.table, part.keys))))
            else:
                if isinstance(part, SetMeta):
                    pair = [part.name, part.value]
                    yield from ask({"op": "named", "get": [], "set": [pair]})
                    self._declared |= part.name in ("epoch", "sync.collections")
                results.append(PartResult([]))
        return results

    def _put(self, part: Put) -> Stepped[PartResult]:
        table, rows = part.table, part.rows
        extras = part.extras
        if extras is None and table.codec.has_extras:
            extras = [table.codec.extras_of_text(row[1]) for row in rows]
        failures: dict[int, HomeportError] = {}
        if part.tokens is None:  # what the server sends is stored (rule G)
            failures = yield from self._refusals(part, extras)
        good = [n for n in range(len(rows)) if n not in failures]
        assert self._tx is not None
        stamp = self._tx.stamp_ms
        words = not self.store.sealed
        if good:
            yield from ask(
                {
                    "op": "put",
                    "s": self.store.place(table),
                    "stamp": stamp,
                    "now": self._now(table),
                    "expires": [table.codec.expires_ms(rows[n], stamp) for n in good]
                    if table.collection.expiring
                    else None,
                    "at": 1,
                    "tokens": None if part.tokens is None else [part.tokens[n] for n in good],
                    "rows": [
                        wire_row(rows[n], None if extras is None else extras[n], words=words)
                        for n in good
                    ],
                },
                texts=[rows[n][1] for n in good],
            )
        keys = [None if n in failures else decode(row[0]) for n, row in enumerate(rows)]
        self._touch(table, (keys[n] for n in good))
        return PartResult(keys, failures)

    def _now(self, table: Table[Any]) -> int | None:
        """The clock where documents may have expired; None where none of them does."""
        return self.reads.now_of(table)

    def _refusals(
        self, part: Put, extras: Sequence[Extras] | None
    ) -> Stepped[dict[int, HomeportError]]:
        table, rows = part.table, part.rows
        codec, place = table.codec, self.store.place(table)
        unique = [index for index in codec.indexes if index.unique]
        adding = part.mode == "add"
        if not unique and not adding:
            return {}
        now = self._now(table)
        commands: list[dict[str, Any]] = []
        if adding:
            keys = [to_wire(row[0]) for row in rows]
            commands.append({"op": "exist", "s": place, "k": keys, "now": now})
        wanted: list[tuple[Index, list[Value]]] = []
        for index in unique:
            found = values_of(codec, index, rows, extras)
            values = list(dict.fromkeys(value for held in found for value in held))
            wanted.append((index, values))
            name = f"m{codec.multi.index(index)}" if index.multi else index.name
            lone = index.multi or len(index.fields) == 1
            wires = [to_wire(v[0]) if lone else [to_wire(one) for one in v] for v in values]
            commands.append({"op": "holders", "s": place, "i": name, "v": wires, "now": now})
        answers = yield from ask(*commands)
        existing: set[Encoded] = set()
        if adding:
            there = answers.pop(0)
            existing = {row[0] for row, one in zip(rows, there, strict=True) if one}
        held: dict[str, list[tuple[Value, Encoded]]] = {}
        for (index, values), holders in zip(wanted, answers, strict=True):
            held[index.spec] = [
                (value, encoded_of(key))
                for value, keys in zip(values, holders, strict=True)
                for key in keys
            ]
        return refusals(
            table.name,
            codec,
            rows,
            extras,
            lambda index, _: held[index.spec],
            adding=adding,
            existing=existing,
        )

    def _delete(self, table: Table[Any], keys: Sequence[Key]) -> Stepped[list[Key | None]]:
        if not keys:
            return []
        (found,) = yield from ask(
            {
                "op": "delete",
                "s": self.store.place(table),
                "k": [to_wire(encode_key(key)) for key in keys],
                "now": self._now(table),
            }
        )
        self._touch(table, (key for key, state in zip(keys, found, strict=True) if state))
        return [key for key, state in zip(keys, found, strict=True) if state == 2]

    def _delete_where(self, request: DeleteWhere) -> Stepped[list[Key | None]]:
        self.store.known(request.table)
        keys = yield from self.reads.find(Find(request.table, request.query, "keys"))
        return (yield from self._delete(request.table, keys))

    def purge(self, table: Table[Any], limit: int) -> Stepped[int]:
        """Remove expired documents, in a transaction of its own → how many."""
        yield from self.begin("write")
        now = self._now(table)
        over = [None, now, False, False, None]
        scan = {"op": "scan", "s": self.store.place(table), "i": "expires", "r": [over],
                "d": "next", "n": limit, "f": "k", "now": None}  # fmt: skip
        ((found, _),) = yield from ask(scan)
        yield from self._delete(table, [decode(encoded_of(key)) for key in found])
        yield from self.commit()
        return len(found)

    def _touch(self, table: Table[Any], keys: Iterable[Any]) -> None:
        if table.collection.track_changes:
            self._notes.extend((table.name, key) for key in keys)

    def close(self) -> None:
        self.forget()


def unknown(name: str) -> UnknownCollection:
    return UnknownCollection(f"This database was opened without {name!r}.", collection=name)
