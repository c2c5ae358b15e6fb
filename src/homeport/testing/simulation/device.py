"""A device of the simulation: a real store, the real plans and exchanges, a network in between."""

from __future__ import annotations

import base64
import copy
import json
import shutil
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from homeport.core import conflicts, operations, updates, writes
from homeport.core.adopt import enable
from homeport.core.codec import Table
from homeport.core.context import Event
from homeport.core.outbox import (
    BASE,
    LOCAL_TABLES,
    META_CLIENT,
    META_CURSOR,
    META_OUTBOX,
    OUTBOX,
    RESOLUTION_LOG,
    read_state,
)
from homeport.core.query import EMPTY
from homeport.core.requests import Count, Find, Meta, Operation
from homeport.core.schema import Collection
from homeport.core.streams import Kind
from homeport.core.wire import RESOLUTIONS, Hello, Hint, PushRequest, Reply
from homeport.drivers.engine import Engine
from homeport.errors import HistoryBroken, HomeportError, IdentityBroken, Unreachable
from homeport.server.exchange import Exchange
from homeport.server.rules import Claims
from homeport.storage.memory import MemoryStore
from homeport.storage.sqlite import SQLiteStore
from homeport.transport.hosts import performer
from homeport.transport.rounds import Rounds

Document = dict[str, Any]


def token_of(subject: str, tenant: str) -> str:
    """A token that the device reads and nobody checks."""

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part({'sub': subject, 'tenant': tenant})}.x"


class Network:
    """The way between one device and the node. Bytes are encoded and decoded as on a real one."""

    def __init__(self, node: Callable[[], Exchange], client: Callable[[str], None]) -> None:
        self._node = node
        self._tell = client
        self.partitioned = False
        self.lose_reply = False
        self.lose_request = False
        self.duplicate = False
        self.sent: list[bytes] = []
        self.claims = Claims("u", "t", 1e12)

    async def exchange(self, body: bytes, token: str) -> Reply:
        del token
        if self.partitioned or self.lose_request:
            self.lose_request = False
            raise Unreachable("No network (simulated).")
        self.sent.append(body)
        if self.duplicate:
            self.duplicate = False
            await self._ask(body)
        answer = await self._ask(body)
        if self.lose_reply:
            self.lose_reply = False
            raise Unreachable("The reply was lost (simulated).")
        return msgspec.json.decode(answer, type=Reply)

    async def replay(self, body: bytes) -> None:
        """An old request arrives once more; nobody waits for the answer."""
        try:
            await self._ask(body)
        except HomeportError:
            return

    async def _ask(self, body: bytes) -> bytes:
        request = msgspec.json.decode(body, type=PushRequest)
        self._tell(request.client)
        try:
            reply = await self._node().sync(self.claims, request)
        except (HistoryBroken, IdentityBroken):
            raise
        except HomeportError as error:
            raise Unreachable(str(error)) from error
        return msgspec.json.encode(reply)

    async def hints(
        self, hello: Hello, kind: Kind, heartbeat_s: float
    ) -> AsyncGenerator[Hint, None]:
        """None: the simulation asks by itself."""
        del hello, kind, heartbeat_s
        return
        yield  # it is a generator

    async def close(self) -> None:
        return None


class SimulatedDevice:
    """One database file with its user."""

    def __init__(
        self,
        name: str,
        collections: Iterable[Collection[Any]],
        network: Network,
        clock_ms: Callable[[], int],
        path: Path | None,
        new_id: Callable[[], str],
    ) -> None:
        self.name = name
        self.collections = tuple(collections)
        self.network = network
        self.path = path
        self.skew_ms = 0
        self.events: list[Event] = []
        self._clock_ms = clock_ms
        self._new_id = new_id
        self._memory = MemoryStore(clock_ms=self.clock_ms) if path is None else None
        self._copy: Any = None
        self._open()
        self.engine.run(Operation(enable(self.synced, new_id(), 100_000), "write"))

    def clock_ms(self) -> int:
        return self._clock_ms() + self.skew_ms

    def _open(self) -> None:
        store: Any = self._memory
        if self.path is not None:
            store = SQLiteStore.open(str(self.path), durability="relaxed", clock_ms=self.clock_ms)
        self.tables: dict[str, Table[Any]] = {c.name: Table(c) for c in self.collections}
        self.tables.update({table.name: table for table in LOCAL_TABLES})
        self.tables[RESOLUTIONS] = Table(RESOLUTION_LOG)
        store.define(list(self.tables.values()))
        self.engine = Engine(store, new_unit=self._new_id)
        self.synced = {c.name: self.tables[c.name] for c in self.collections}
        self.synced[RESOLUTIONS] = self.tables[RESOLUTIONS]
        self.rounds = Rounds(
            performer(self.engine),
            self.synced,
            "http://simulated",
            token_of("u", "t"),
            self.events.append,
            net=self.network,
            make_id=self._new_id,
        )

    def reopen(self) -> None:
        """The process is killed and starts again: what was only in its memory is gone."""
        if self.path is not None:
            self.engine.close()
        self._open()

    def save(self) -> None:
        """Somebody copies the file."""
        if self.path is None:
            assert self._memory is not None
            self._copy = self._twin(self._memory)
        else:
            self.engine.close()
            self._copy = self.path.with_suffix(".copy")
            shutil.copy(self.path, self._copy)
            self._open()

    def restore(self) -> bool:
        """The copy is put back in place of the file; False when there is none."""
        if self._copy is None:
            return False
        if self.path is None:
            self._memory = self._twin(self._copy)
        else:
            self.engine.close()
            for end in ("-wal", "-shm"):
                self.path.with_name(self.path.name + end).unlink(missing_ok=True)
            shutil.copy(self._copy, self.path)
        self._open()
        return True

    def _twin(self, store: MemoryStore) -> MemoryStore:
        """Another store with the same content."""
        made = MemoryStore(clock_ms=self.clock_ms)
        made.tables = dict(store.tables)
        made.rows, made.meta, made.log = copy.deepcopy((store.rows, store.meta, store.log))
        made.head, made.commits = store.head, store.commits
        made.stamp_ms, made.used_bytes = store.stamp_ms, store.used_bytes
        return made

    def close(self) -> None:
        self.engine.close()

    # -- the user

    def put(self, collection: str, document: Document) -> None:
        self.engine.run(writes.put(self.tables[collection], document, self._new_id))

    def patch(self, collection: str, key: str, changes: Mapping[str, Any]) -> None:
        self.engine.run(updates.patch(self.tables[collection], key, changes))

    def delete(self, collection: str, key: str) -> None:
        self.engine.run(writes.delete(self.tables[collection], key))

    def unit(self, *steps: Callable[[], None]) -> None:
        level = self.engine.enter()
        done = False
        try:
            for step in steps:
                step()
            done = True
        finally:
            self.engine.leave(level, commit=done)

    def get(self, collection: str, key: str) -> Document | None:
        found: Document | None = self.engine.run(operations.get(self.tables[collection], key, None))
        return found

    def all(self, collection: str) -> dict[str, Document]:
        def plan() -> Any:
            return (yield Find(self.tables[collection], EMPTY, "entries"))

        return {key: msgspec.json.decode(text) for key, text in self._read(plan())}

    def _read(self, plan: Any) -> Any:
        return self.engine.run(Operation(plan, "read"))

    def meta(self, name: str) -> Any:
        def plan() -> Any:
            return (yield Meta(name))

        return self._read(plan())

    @property
    def client(self) -> str:
        return str(self.meta(META_CLIENT))

    @property
    def cursor(self) -> str | None:
        found: str | None = self.meta(META_CURSOR)
        return found

    def waiting(self) -> int:
        """Entries of the queue; also checks that its counter and its bases agree with them."""

        def plan() -> Any:
            entries = yield Find(OUTBOX, EMPTY, "texts")
            bases = yield Count(BASE, EMPTY)
            return entries, bases

        entries, bases = self._read(plan())
        refs = {msgspec.json.decode(text)["ref"] for text in entries}
        state = read_state(self.meta(META_OUTBOX))
        if state.queued != len(entries) or bases != len(refs):
            raise AssertionError(
                f"{self.name}: the counter says {state.queued}, the queue has {len(entries)} "
                f"entries of {len(refs)} documents, and there are {bases} bases"
            )
        return len(entries)

    def told(self) -> str:
        """Everything that is listed for a person, as text."""
        held = self._read(conflicts.list_conflicts())
        dead = self._read(conflicts.list_dead())
        return msgspec.json.encode([held, dead]).decode()

    def open_conflicts(self) -> list[conflicts.Conflict]:
        found: list[conflicts.Conflict] = self._read(conflicts.list_conflicts())
        return found

    def resolve(self, conflict: conflicts.Conflict, choice: str) -> None:
        plan = conflicts.resolve(self.synced, conflict.id, choice)  # type: ignore[arg-type]
        self.engine.run(Operation(plan, "write"))

    # -- the network

    async def exchange(self) -> bool:
        """One exchange → is everything done? A failure of the network is no error."""
        try:
            return await self.rounds.exchange(pull=True)
        except HomeportError:
            return False

    async def settle(self, limit: int = 80) -> bool:
        """Exchange until nothing moves; False when it does not come to rest."""
        for _ in range(limit):
            if await self.exchange():
                return True
        return False
