"""PostgreSQL as the node knows it, in memory: transaction ids, snapshots, locks, crashes, backups.

It answers the statements of ``homeport.server`` by their text, and nothing else: a statement that
it does not know is an error, so that the simulation cannot drift from the node. What makes a
database hard to follow is in it: a transaction that stays open has its id in every snapshot; ids
are given in another order than transactions commit; what a crash takes back gives its ids away a
second time; an asynchronous commit is seen by all and lost by a crash.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Place = tuple[str, str]
TENANT = "t"
ClientRow = tuple[int, str | None, str | None, bool]
"""Number, hash and answer of the last batch; whether the id is retired."""


@dataclass
class Document:
    """A row of ``homeport.documents``."""

    version: int
    bucket: str
    body: str
    schema: int = 1


@dataclass
class Logged:
    """A row of ``homeport.change_log``."""

    xid: int
    collection: str
    key: str
    bucket: str


@dataclass
class State:
    """What is committed."""

    documents: dict[Place, Document] = field(default_factory=dict)
    log: list[Logged] = field(default_factory=list)
    clients: dict[tuple[str, str], ClientRow] = field(default_factory=dict)
    collections: dict[str, list[Any]] = field(default_factory=dict)
    """name → generation, policy, deletes, fields."""
    markers: dict[str, float] = field(default_factory=dict)
    horizon: str | None = None
    last_xid: int = 700
    """The highest id whose commit is on disk."""


@dataclass
class Transaction:
    """xid is given with the first write or lock. ``writes``: place → row or None."""

    xid: int | None = None
    read_only: bool = False
    undo: list[Callable[[], None]] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    writes: dict[Place, Document | None] = field(default_factory=dict)


class SimulatedPostgres:
    """One server. ``now_s``: its clock."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.now_s = now_s
        self.state = State()
        self.next_xid = 701
        self.open: dict[int, Transaction] = {}
        self.up = True
        self.history: dict[Place, list[str | None]] = {}
        """Every text that ever stood at a place, for the checks."""
        self.drops: list[tuple[str | None, str | None, str | None]] = []
        """(client or None, text before, text after) of every committed write."""
        self.writer: str | None = None
        self._before_volatile: State | None = None
        self.statements = 0
        self.log_deletes = True

    # -- transactions

    def begin(self, *, read_only: bool = False) -> Transaction:
        return Transaction(read_only=read_only)

    def xid_of(self, tx: Transaction) -> int:
        if tx.xid is None:
            tx.xid = self.next_xid
            self.next_xid += 1
            self.open[tx.xid] = tx
        return tx.xid

    def commit(self, tx: Transaction, *, durable: bool = True) -> None:
        if tx.xid is None:
            return
        if durable:
            self._before_volatile = None
        elif self._before_volatile is None:
            self._before_volatile = copy.deepcopy(self.state)
        for place, row in tx.writes.items():
            self._put(place, row, tx.xid)
        self.open.pop(tx.xid, None)
        if durable:
            self.state.last_xid = max(self.state.last_xid, tx.xid)
        tx.undo.clear()

    def abort(self, tx: Transaction) -> None:
        for step in reversed(tx.undo):
            step()
        tx.undo.clear()
        if tx.xid is not None:
            self.open.pop(tx.xid, None)

    def _put(self, place: Place, row: Document | None, xid: int) -> None:
        """A committed write, as the triggers of the schema see it."""
        old = self.state.documents.get(place)
        buckets = {one.bucket for one in (old, row) if one is not None}
        if row is None:
            self.state.documents.pop(place, None)
        else:
            self.state.documents[place] = Document(xid, row.bucket, row.body, row.schema)
        if row is not None or self.log_deletes:
            self.state.log += [Logged(xid, *place, bucket) for bucket in sorted(buckets)]
        body = None if row is None else row.body
        self.history.setdefault(place, []).append(body)
        self.drops.append((self.writer, None if old is None else old.body, body))

    def snapshot(self) -> str:
        ids = sorted(self.open)
        low = ids[0] if ids else self.next_xid
        return f"{low}:{self.next_xid}:{','.join(map(str, ids))}"

    def locked(self, places: Iterable[Place], by: Transaction) -> bool:
        """Does another open transaction hold one of these rows?"""
        wanted = set(places)
        return any(tx is not by and not wanted.isdisjoint(tx.writes) for tx in self.open.values())

    # -- what happens to databases

    def sql(self, writes: dict[Place, Document | None], *, durable: bool = True) -> bool:
        """Another program writes; False when an open transaction is in the way."""
        tx = self.begin()
        if self.locked(writes, tx):
            return False
        self.xid_of(tx)
        tx.writes = dict(writes)
        self.writer = None
        self.commit(tx, durable=durable)
        return True

    def roll_back_one(self) -> None:
        """A transaction that fails uses an id up, and leaves nothing on disk."""
        tx = self.begin()
        self.xid_of(tx)
        self.abort(tx)

    def crash(self) -> None:
        """Open transactions and asynchronous commits are gone; ids that never came to disk are
        given again."""
        for tx in list(self.open.values()):
            self.abort(tx)
        if self._before_volatile is not None:
            self.state, self._before_volatile = self._before_volatile, None
        self.next_xid = self.state.last_xid + 1

    def backup(self) -> State:
        """A base backup: what is on disk now."""
        return copy.deepcopy(self._before_volatile or self.state)

    def restore(self, state: State) -> None:
        """The backup is put back; the clock of ids goes back with it."""
        self.open.clear()
        self._before_volatile = None
        self.state = copy.deepcopy(state)
        self.next_xid = self.state.last_xid + 1

    def prune(self) -> None:
        """Forget the change log up to now: cursors from before are refused afterwards."""
        self.state.horizon = self.snapshot()
        self.state.log = [row for row in self.state.log if not sees(self.state.horizon, row.xid)]


def parts(snapshot: str) -> tuple[int, int, frozenset[int]]:
    low, high, between = snapshot.split(":")
    return int(low), int(high), frozenset(int(one) for one in between.split(",") if one)


def sees(snapshot: str, xid: int) -> bool:
    """``pg_visible_in_snapshot``."""
    low, high, between = parts(snapshot)
    return xid < low or (xid < high and xid not in between)


def pruned(horizon: str | None, cursor: str) -> bool:
    """The condition of the node's marker statement."""
    if horizon is None:
        return False
    _, high, _ = parts(horizon)
    _, cursor_high, between = parts(cursor)
    return high > cursor_high or any(sees(horizon, xid) for xid in between)
