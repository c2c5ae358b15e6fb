"""A device without network or threads: the store, the plans of sync, and a model server."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from homeport.core import conflicts, operations, updates, writes
from homeport.core.adopt import adopt_chunk, enable
from homeport.core.codec import Table
from homeport.core.cuts import Received, receive
from homeport.core.diff import parse
from homeport.core.exchange import Question, ask
from homeport.core.freeze import read_in_flight
from homeport.core.outbox import (
    BASE,
    META_IN_FLIGHT,
    META_OUTBOX,
    OUTBOX,
    SYSTEM,
    read_base,
    read_entry,
    read_state,
)
from homeport.core.query import EMPTY
from homeport.core.requests import Find, Meta, Operation
from homeport.core.reset import reset
from homeport.core.schema import Collection
from homeport.core.wire import RESOLUTIONS, Reply
from homeport.drivers.engine import Engine
from homeport.storage.memory import MemoryStore

from .model import ModelServer, Problem

ids = itertools.count(1)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        self.now += 1
        return self.now


class Device:
    def __init__(
        self,
        server: ModelServer,
        *collections: Collection[Any],
        name: str = "d",
        user: str = "u",
        path: Path | None = None,
        max_queue: int = 100_000,
        enabled: bool = True,
    ) -> None:
        self.server, self.user, self.name, self.path = server, user, name, path
        self.collections = collections or (Collection("wells"),)
        self.max_queue = max_queue
        self.clock = Clock()
        self.events: list[Any] = []
        self.memory = None if path else MemoryStore(clock_ms=self.clock)
        self.open()
        if enabled:
            self.enable()

    def open(self) -> None:
        if self.path is None:
            store: Any = self.memory
        else:
            from homeport.storage.sqlite import SQLiteStore

            store = SQLiteStore.open(str(self.path), durability="relaxed", clock_ms=self.clock)
        self.store = store
        self.tables = {c.name: Table(c) for c in (*self.collections, *SYSTEM)}
        store.define(list(self.tables.values()))
        self.engine = Engine(store, new_unit=lambda: f"{self.name}-u{next(ids)}")
        self.synced = {
            n: self.tables[n] for n in [*(c.name for c in self.collections if c.sync), RESOLUTIONS]
        }

    def reopen(self) -> None:
        """Everything that was only in memory is gone."""
        if self.path is not None:
            self.engine.close()
        self.open()

    def enable(self) -> None:
        self.write(enable(self.synced, f"{self.name}-c{next(ids)}", self.max_queue))

    # -- stepping plans

    def write(self, plan: Any) -> Any:
        return self.engine.run(Operation(plan, "write"))

    def read(self, plan: Any) -> Any:
        return self.engine.run(Operation(plan, "read"))

    # -- the user's side

    def put(self, doc: dict[str, Any], collection: str = "wells") -> None:
        self.engine.run(writes.put(self.tables[collection], doc, lambda: f"k{next(ids)}"))

    def put_many(self, docs: list[dict[str, Any]], collection: str = "wells") -> None:
        self.engine.run(writes.put_many(self.tables[collection], docs, lambda: f"k{next(ids)}"))

    def patch(self, key: str, collection: str = "wells", **changes: Any) -> None:
        self.engine.run(updates.patch(self.tables[collection], key, changes))

    def delete(self, key: str, collection: str = "wells") -> None:
        self.engine.run(writes.delete(self.tables[collection], key))

    def unit(self, *steps: Callable[[], None]) -> None:
        level = self.engine.enter()
        ok = False
        try:
            for step in steps:
                step()
            ok = True
        finally:
            self.engine.leave(level, commit=ok)

    def get(self, key: str, collection: str = "wells") -> Any:
        return self.all(collection).get(key)

    def all(self, collection: str = "wells") -> dict[str, Any]:
        def plan() -> Any:
            return (yield Find(self.tables[collection], EMPTY, "entries"))

        return {key: parse(text) for key, text in self.read(plan())}

    def meta(self, name: str) -> Any:
        def plan() -> Any:
            return (yield Meta(name))

        return self.read(plan())

    def outbox(self) -> list[Any]:
        def plan() -> Any:
            return (yield Find(OUTBOX, EMPTY.with_order("id"), "texts"))

        return [read_entry(text) for text in self.read(plan())]

    def bases(self) -> dict[str, Any]:
        def plan() -> Any:
            return (yield Find(BASE, EMPTY, "texts"))

        return {b.id: b for b in map(read_base, self.read(plan()))}

    def conflicts(self) -> list[conflicts.Conflict]:
        return self.read(conflicts.list_conflicts())

    def dead(self) -> list[conflicts.DeadLetter]:
        return self.read(conflicts.list_dead())

    def log(self) -> list[conflicts.Resolution]:
        return self.read(conflicts.list_resolutions(self.tables, 1_000))

    def resolve(self, conflict_id: str, choice: Any) -> None:
        self.write(conflicts.resolve(self.synced, conflict_id, choice))

    # -- the wire

    def ask(self) -> Question:
        declared = {
            n: t.collection.sync.policy for n, t in self.synced.items() if t.collection.sync
        }
        return self.write(ask(self.synced, declared))

    def answer(self, question: Question, reply: bytes) -> Received:
        decoded = msgspec.json.decode(reply, type=Reply)
        received = self.write(receive(decoded, question.asked, self.synced))
        self.events.extend(received.events)
        if received.kind == "identity":
            self.reset(question)
        self.check()
        return received

    def reset(self, question: Question) -> None:
        self.write(reset(f"{self.name}-c{next(ids)}", seen=question.asked.client))

    def round(self, *, lose: bool = False) -> Received | None:
        """One exchange; lose: the server does its part, the reply never arrives."""
        question = self.ask()
        try:
            reply = self.server.sync(question.body, self.user)
        except Problem as problem:
            assert problem.status in (409, 410), problem.code
            if not lose:
                self.reset(question)
            return None
        if lose:
            return None
        return self.answer(question, reply)

    def sync(self, rounds: int = 60) -> None:
        """Until nothing moves."""
        for _ in range(rounds):
            while self.write(adopt_chunk(self.synced)):
                pass
            question = self.ask()
            try:
                reply = self.server.sync(question.body, self.user)
            except Problem:
                self.reset(question)
                continue
            received = self.answer(question, reply)
            quiet = received.kind == "applied" and question.number is None and not received.rows
            if quiet and not received.news:
                return
        raise AssertionError("the device does not come to rest")

    def check(self) -> None:
        """What holds at any time: counters and bases agree with the queue."""
        entries = self.outbox()
        state = read_state(self.meta(META_OUTBOX))
        assert state.queued == len(entries), (state.queued, entries)
        assert set(self.bases()) == {e.ref for e in entries}
        flying = read_in_flight(self.meta(META_IN_FLIGHT))
        if flying is not None:
            assert set(flying.entries) <= {e.id for e in entries}
        for entry in entries:
            assert entry.id < state.next
