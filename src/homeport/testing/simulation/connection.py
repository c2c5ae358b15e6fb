"""The node's statements, answered by ``SimulatedPostgres``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from homeport.core.verify import slot_of, weight
from homeport.errors import DatabaseUnavailable
from homeport.server import feed, push, visible
from homeport.testing.simulation.faults import Faults
from homeport.testing.simulation.postgres import (
    TENANT,
    ClientRow,
    Document,
    Place,
    SimulatedPostgres,
    Transaction,
    parts,
    pruned,
)


class Record(tuple[Any, ...]):  # noqa: SLOT001 - the names are kept beside it
    """A row with named columns, as the driver returns it."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, **values: Any) -> Record:
        made = cls(values.values())
        made.names = tuple(values)
        return made

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, str):
            item = self.names.index(item)
        return tuple.__getitem__(self, item)


def _row(place: Place, row: Document) -> Record:
    return Record.of(
        collection=place[0],
        key=place[1],
        token=str(row.version),
        bucket=row.bucket,
        body=row.body,
        schema=row.schema,
    )


class SimulatedConnection:
    """What ``homeport.server`` uses of a connection. ``cut_in``: so many statements from now the
    connection is lost; at the commit, one cannot know whether it happened."""

    def __init__(self, postgres: SimulatedPostgres, faults: Faults) -> None:
        self.postgres = postgres
        self.faults = faults
        self.tx: Transaction | None = None
        self._closed = False
        self._answers: dict[str, Callable[..., Any]] = {
            feed._MARK: self._mark,
            feed._CHANGED: self._changed,
            visible._BY_KEY: self._by_key,
            visible._BY_BUCKET: self._by_bucket,
            visible._FIRST_OF_BUCKET: self._first_of_bucket,
            visible._BY_SLOT: self._by_slot,
            visible._SUMS: self._sums,
            push._LOCK_ROWS: self._lock_rows,
            push._WRITE: self._write,
        }
        self._openings: tuple[tuple[str, Callable[..., Any]], ...] = (
            ("begin", self._begin),
            ("commit", self._commit),
            ("rollback to savepoint", self._back_to),
            ("rollback", self._rollback),
            ("savepoint", self._savepoint),
            ("release savepoint", self._release),
            ("set constraints", self._nothing),
            ("select pg_current_snapshot()", self._now),
            ("select name, ", self._collections),
            ("select count(*) from homeport.documents", self._count),
            ("select client, answer from homeport.clients", self._last_answers),
            ("select number, hash, answer, retired from homeport.clients", self._client),
            ("insert into homeport.clients as c", self._retire),
            ("insert into homeport.clients", self._new_client),
            ("update homeport.clients set number", self._answered),
            ("insert into homeport.markers", self._new_marker),
            ("insert into homeport.collections", self._new_collection),
        )

    # -- the driver's side

    def _run(self, query: str, args: tuple[Any, ...]) -> Any:
        self.faults.before()
        self.postgres.statements += 1
        answer = self._answers.get(query)
        if answer is None:
            for opening, method in self._openings:
                if query.startswith(opening):
                    answer = method
                    break
            else:
                raise AssertionError(f"The simulation does not know the statement {query!r}.")
        found = answer(query, *args) if answer.__name__ == "_collections" else answer(*args)
        self.faults.after(query)
        return found

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        del timeout
        if self._auto(query):
            self.tx = self.postgres.begin()
            try:
                self._run(query, args)
            except BaseException:
                self.postgres.abort(self.tx)
                raise
            else:
                self.postgres.commit(self.tx)
            finally:
                self.tx = None
            return "INSERT 0 1"
        self._run(query, args)
        return ""

    def _auto(self, query: str) -> bool:
        return self.tx is None and query.startswith(("insert", "update"))

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        found: list[Any] = self._run(query, args)
        return found

    async def fetchrow(self, query: str, *args: Any) -> Any:
        found = self._run(query, args)
        return found[0] if found else None

    async def fetchval(self, query: str, *args: Any) -> Any:
        row = await self.fetchrow(query, *args)
        return None if row is None else row[0]

    def is_in_transaction(self) -> bool:
        return self.tx is not None

    def is_closed(self) -> bool:
        return self._closed

    def terminate(self) -> None:
        self._closed = True
        if self.tx is not None:
            self.postgres.abort(self.tx)
            self.tx = None

    # -- transactions

    def _begin(self) -> None:
        self.tx = self.postgres.begin()

    def _commit(self) -> None:
        assert self.tx is not None
        self.postgres.writer = self.faults.client
        self.postgres.commit(self.tx)
        self.tx = None

    def _rollback(self) -> None:
        if self.tx is not None:
            self.postgres.abort(self.tx)
        self.tx = None

    def _savepoint(self) -> None:
        assert self.tx is not None
        self.tx.marks.append(len(self.tx.undo))

    def _back_to(self) -> None:
        assert self.tx is not None
        while len(self.tx.undo) > self.tx.marks[-1]:
            self.tx.undo.pop()()

    def _release(self) -> None:
        assert self.tx is not None
        self.tx.marks.pop()

    def _nothing(self) -> None:
        return None

    def _now(self) -> list[Any]:
        return [Record.of(now=self.postgres.snapshot(), standby=False)]

    # -- reading

    def _documents(self) -> dict[Place, Document]:
        """What this transaction sees: the committed rows and its own."""
        seen = self.postgres.state.documents
        if self.tx is None or not self.tx.writes:
            return seen
        own = dict(seen)
        for place, row in self.tx.writes.items():
            if row is None:
                own.pop(place, None)
            else:
                own[place] = row
        return own

    def _mark(self, snapshot: str, nonce: str) -> list[Any]:
        made = self.postgres.state.markers.get(nonce)
        age = None if made is None else self.postgres.now_s() - made
        return [Record.of(age_s=age, pruned=pruned(self.postgres.state.horizon, snapshot))]

    def _changed(
        self,
        tenant: str,
        since: str,
        names: list[str],
        buckets: list[str],
        after_name: str,
        after_key: str,
        limit: int,
    ) -> list[Any]:
        assert tenant == TENANT
        _, high, between = parts(since)
        scope = set(zip(names, buckets, strict=True))
        found = {
            (row.collection, row.key)
            for row in self.postgres.state.log
            if (row.xid >= high or row.xid in between) and (row.collection, row.bucket) in scope
        }
        places = sorted(place for place in found if place > (after_name, after_key))
        return [Record.of(collection=name, key=key) for name, key in places[:limit]]

    def _by_key(
        self, _: str, names: list[str], keys: list[str], scopes: list[str], buckets: list[str]
    ) -> list[Any]:
        scope = set(zip(scopes, buckets, strict=True))
        documents = self._documents()
        found = [(place, documents.get(place)) for place in zip(names, keys, strict=True)]
        return [_row(p, row) for p, row in found if row is not None and (p[0], row.bucket) in scope]

    def _by_bucket(self, _: str, name: str, bucket: str, after: str, limit: int) -> list[Any]:
        rows = [(p, r) for p, r in self._sorted(name, [bucket]) if p[1] > after]
        return [_row(place, row) for place, row in rows[:limit]]

    def _first_of_bucket(self, _: str, name: str, bucket: str, limit: int) -> list[Any]:
        return [_row(place, row) for place, row in self._sorted(name, [bucket])[:limit]]

    def _sorted(self, name: str, buckets: list[str]) -> list[tuple[Place, Document]]:
        rows = [
            (place, row)
            for place, row in self._documents().items()
            if place[0] == name and row.bucket in buckets
        ]
        return sorted(rows, key=lambda found: found[0])

    def _by_slot(self, _: str, name: str, buckets: list[str], slots: list[int]) -> list[Any]:
        return [_row(p, r) for p, r in self._sorted(name, buckets) if slot_of(p[1]) in slots]

    def _sums(self, _: str, name: str, buckets: list[str]) -> list[Any]:
        totals: dict[int, int] = {}
        for (_name, key), row in self._sorted(name, buckets):
            number = slot_of(key)
            totals[number] = totals.get(number, 0) + weight(key, str(row.version))
        return [Record.of(slot=number, total=str(total)) for number, total in totals.items()]

    def _count(self, _: str, name: str, buckets: list[str]) -> list[Any]:
        return [Record.of(count=len(self._sorted(name, buckets)))]

    def _collections(self, query: str, names: list[str]) -> list[Any]:
        columns = query.removeprefix("select ").partition(" from ")[0].split(", ")
        found = []
        for name in names:
            values = self.postgres.state.collections.get(name)
            if values is not None:
                every = dict(
                    zip(("generation", "policy", "deletes", "fields"), values, strict=True),
                    name=name,
                )
                found.append(Record.of(**{column: every[column] for column in columns}))
        return found

    def _last_answers(self, _: str, subject: str, clients: list[str]) -> list[Any]:
        known = self.postgres.state.clients
        rows = [(client, known.get((subject, client))) for client in clients]
        return [Record.of(client=c, answer=row[2]) for c, row in rows if row is not None and row[2]]

    # -- writing

    def _client(self, _: str, subject: str, client: str) -> list[Any]:
        assert self.tx is not None
        self.postgres.xid_of(self.tx)  # it is locked
        row = self.postgres.state.clients.get((subject, client))
        return (
            []
            if row is None
            else [Record.of(number=row[0], hash=row[1], answer=row[2], retired=row[3])]
        )

    def _set_client(self, subject: str, client: str, row: ClientRow) -> None:
        assert self.tx is not None
        clients, who = self.postgres.state.clients, (subject, client)
        before = clients.get(who)

        def undo() -> None:
            if before is None:
                clients.pop(who, None)
            else:
                clients[who] = before

        self.tx.undo.append(undo)
        clients[who] = row

    def _new_client(self, _: str, subject: str, client: str) -> None:
        self._set_client(subject, client, (0, None, None, False))

    def _retire(self, _: str, subject: str, clients: list[str]) -> None:
        for client in clients:
            known = self.postgres.state.clients.get((subject, client), (0, None, None, False))
            self._set_client(subject, client, (*known[:3], True))

    def _answered(
        self, _: str, subject: str, client: str, number: int, digest: str, answer: str
    ) -> None:
        self._set_client(subject, client, (number, digest, answer, False))

    def _lock_rows(self, _: str, names: list[str], keys: list[str]) -> list[Any]:
        assert self.tx is not None
        places = list(zip(names, keys, strict=True))
        if self.postgres.locked(places, self.tx):
            raise DatabaseUnavailable("Another transaction holds these documents; try again.")
        self.postgres.xid_of(self.tx)
        documents = self._documents()
        return [_row(place, documents[place]) for place in sorted(places) if place in documents]

    def _write(self, _: str, *columns: list[str]) -> list[Any]:
        assert self.tx is not None
        tx, xid = self.tx, self.postgres.xid_of(self.tx)
        seen = self._documents()
        done = 0
        for name, key, bucket, body, form in zip(*columns[0:4], columns[12], strict=True):
            assert (name, key) not in seen, "the node inserts what is there"
            done += self._stage(tx, (name, key), Document(xid, bucket, body, int(form)))
        for name, key, base, bucket, body, form in zip(*columns[4:9], columns[13], strict=True):
            if (name, key) in seen and str(seen[name, key].version) == base:
                done += self._stage(tx, (name, key), Document(xid, bucket, body, int(form)))
        for name, key, base in zip(*columns[9:12], strict=True):
            if (name, key) in seen and str(seen[name, key].version) == base:
                done += self._stage(tx, (name, key), None)
        return [Record.of(count=done)]

    def _stage(self, tx: Transaction, place: Place, row: Document | None) -> int:
        had, before = place in tx.writes, tx.writes.get(place)

        def undo() -> None:
            if had:
                tx.writes[place] = before
            else:
                tx.writes.pop(place, None)

        tx.undo.append(undo)
        tx.writes[place] = row
        if row is not None:
            msgspec.json.decode(row.body)  # as the column's type does
        return 1

    def _new_marker(self, nonce: str) -> None:
        assert self.tx is not None
        self.postgres.xid_of(self.tx)
        self.postgres.state.markers[nonce] = self.postgres.now_s()
        markers = self.postgres.state.markers

        def undo() -> None:
            markers.pop(nonce, None)

        self.tx.undo.append(undo)

    def _new_collection(self, name: str, policy: str, deletes: str, fields: str) -> None:
        assert self.tx is not None
        self.postgres.xid_of(self.tx)
        self.postgres.state.collections.setdefault(name, [1, policy, deletes, fields])
