"""A live query is a local pull: what changed since change n, and the rows of those keys, in one
read transaction, evaluated when the consumer asks.

The view keeps the texts of its rows in the order of the query. With a limit it keeps a margin of
rows behind the limit, so that a row that leaves has a successor at hand, and runs the query again
only when the margin is used up. A query with an offset or a position is run again at every change
of its collection.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from homeport.core import evaluate
from homeport.core.keys import encode_key
from homeport.core.operations import KEY_ORDER, holds
from homeport.core.query import QueryValue
from homeport.core.requests import Changes, ChangeSet, Find, GetMany, Operation, Plan
from homeport.errors import UsageError

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.keys import Encoded, Key

T = TypeVar("T")

MARGIN = 32
"""Rows kept behind the limit of a live query."""


class Entry:
    """A row of the result. order: its place; name: its key in storable form."""

    __slots__ = ("key", "name", "order", "text")

    def __init__(self, order: Any, name: Encoded, key: Key, text: str) -> None:
        self.order = order
        self.name = name
        self.key = key
        self.text = text

    def __lt__(self, other: Entry) -> bool:
        return bool(self.order < other.order)


class LiveChange(Generic[T]):
    """What one look at a live query found new.

    Attributes:
        added: documents that are in the result now and were not before (all of them, the first
            time).
        changed: documents of the result that were written.
        removed: keys of documents that left the result (deleted, or no longer matching).
        reset: the result was read as a whole: the first time, or because the log of changes did
            not reach back far enough. The three lists are exact all the same.
        rows: the whole result in its order, decoded when it is first asked for.
    """

    __slots__ = ("_added", "_changed", "_decode", "_entries", "_rows", "removed", "reset")

    def __init__(
        self,
        decode: Callable[[str], T],
        entries: list[Entry],
        added: list[Entry],
        changed: list[Entry],
        removed: list[Key],
        *,
        reset: bool,
    ) -> None:
        self._decode = decode
        self._entries: list[Entry] | None = entries
        self._added: list[Any] = added
        self._changed: list[Any] = changed
        self._rows: list[T] | None = None
        self.removed = removed
        self.reset = reset

    @property
    def added(self) -> list[T]:
        self._added = self._decoded(self._added)
        return self._added

    @property
    def changed(self) -> list[T]:
        self._changed = self._decoded(self._changed)
        return self._changed

    @property
    def rows(self) -> list[T]:
        if self._rows is None:
            if self._entries is None:
                raise UsageError(
                    "The rows of an earlier change are asked for after the next one was taken.",
                    action="Read change.rows before asking the live query for the next change.",
                )
            self._rows = [self._decode(entry.text) for entry in self._entries]
        return self._rows

    def __len__(self) -> int:
        """How many documents were added, changed or removed."""
        return len(self._added) + len(self._changed) + len(self.removed)

    def __repr__(self) -> str:
        return (
            f"LiveChange(added={len(self._added)}, changed={len(self._changed)}, "
            f"removed={len(self.removed)}, reset={self.reset})"
        )

    def expire(self) -> None:
        """The view is about to move on; from now on ``rows`` would be of another moment."""
        self._entries = None

    def _decoded(self, items: list[Any]) -> list[T]:
        if items and isinstance(items[0], Entry):
            return [self._decode(entry.text) for entry in items]
        return items


class View(Generic[T]):
    """The state of one live query. ``refresh`` gives the operation that moves it on."""

    def __init__(self, table: Table[T], query: QueryValue) -> None:
        if not table.collection.track_changes:
            raise UsageError(
                f"{table.name} is declared with track_changes=False, so a live query cannot know "
                "when it changed.",
                action="Declare the collection with track_changes=True.",
            )
        if not query.order and query.after is None:
            # The store may answer in any order then, but the places of rows have to be known here.
            query = query.with_bound_order(KEY_ORDER)
        self.table = table
        self.query = query
        self.head = -1
        self._rerun = bool(query.offset or query.after or (query.predicates and query.limit))
        self._entries: list[Entry] = []
        self._at: dict[Encoded, Entry] = {}
        self._whole = True
        self._last: LiveChange[T] | None = None

    def refresh(self) -> Operation[LiveChange[T] | None]:
        """→ what is new since the last refresh, None when nothing is."""
        return Operation(self._refresh(), "read", False, (self.table,))

    def _refresh(self) -> Plan[LiveChange[T] | None]:
        known = self.head
        news: ChangeSet = yield Changes(known if known >= 0 else None, (self.table,))
        if known < 0 or news.keys is None:
            return (yield from self._run_again(news.head, reset=True))
        keys = news.keys.get(self.table.name) or []
        if not keys:
            self.head = news.head
            return None
        if self._rerun:
            return (yield from self._run_again(news.head, reset=False))
        texts: list[str | None] = yield GetMany(self.table, keys)
        return (yield from self._apply(news.head, keys, texts))

    # -- the whole result

    def _run_again(self, head: int, *, reset: bool) -> Plan[LiveChange[T] | None]:
        query = self._wanted()
        found = yield Find(self.table, query, "entries")
        before = self._visible()
        self._whole = query.limit is None or len(found) < query.limit
        entries = [self._entry(key, text) for key, text in found]
        if self.query.predicates:
            entries = [entry for entry in entries if self._passes(entry.text)]
            if self._rerun:
                end = None if self.query.limit is None else self.query.offset + self.query.limit
                entries = entries[self.query.offset : end]
        self._entries = entries
        self._at = {entry.name: entry for entry in entries}
        first = self.head < 0
        self.head = head
        change = self._difference(before, reset=reset)
        return change if first or len(change) else None

    def _wanted(self) -> QueryValue:
        query = self.query
        if query.predicates:
            return query.with_limit(None).with_offset(0)
        if query.limit is None or self._rerun:
            return query
        return query.with_limit(query.limit + MARGIN)

    # -- a few rows of it

    def _apply(
        self, head: int, keys: list[Key], texts: list[str | None]
    ) -> Plan[LiveChange[T] | None]:
        limit = self.query.limit
        fresh: list[tuple[Encoded, Entry | None, Entry | None]] = []
        for key, text in zip(keys, texts, strict=True):
            name = encode_key(key)
            old = self._at.get(name)
            if old is not None and text == old.text:
                continue
            new = None
            if text is not None:
                new = self._entry_if_match(key, text)
            if old is not None or new is not None:
                fresh.append((name, old, new))
        if not fresh:
            self.head = head
            return None
        before = None if limit is None else self._visible()
        if self._last is not None:
            self._last.expire()
            self._last = None
        for name, old, new in fresh:
            if old is not None:
                self._take_out(old)
            if new is not None and (self._whole or (self._entries and new < self._entries[-1])):
                insort(self._entries, new)
                self._at[name] = new
        self.head = head
        if limit is None or before is None:
            return self._delivered(
                self._entries,
                [new for _, old, new in fresh if new is not None and old is None],
                [new for _, old, new in fresh if new is not None and old is not None],
                [old.key for _, old, new in fresh if old is not None and new is None],
                reset=False,
            )
        if not self._whole and len(self._entries) < limit:
            # The margin is used up; what follows the last row is known to the store alone.
            visible = before
            found = yield Find(self.table, self._wanted(), "entries")
            self._whole = len(found) < limit + MARGIN
            self._entries = [self._entry(key, text) for key, text in found]
            self._at = {entry.name: entry for entry in self._entries}
            change = self._difference(visible, reset=False)
        else:
            if len(self._entries) > limit + 2 * MARGIN:
                for entry in self._entries[limit + MARGIN :]:
                    del self._at[entry.name]
                del self._entries[limit + MARGIN :]
                self._whole = False
            change = self._difference(before, reset=False)
        return change if len(change) else None

    def _take_out(self, entry: Entry) -> None:
        del self._at[entry.name]
        place = bisect_left(self._entries, entry)
        while self._entries[place] is not entry:
            place += 1
        del self._entries[place]

    # -- shared

    def _entry(self, key: Key, text: str) -> Entry:
        return Entry(self._order(key, msgspec.json.decode(text)), encode_key(key), key, text)

    def _order(self, key: Key, plain: Any) -> Any:
        return evaluate.sort_key(self.query.order, plain, key)

    def _entry_if_match(self, key: Key, text: str) -> Entry | None:
        plain = msgspec.json.decode(text)
        where = self.query.where
        if where is not None and not evaluate.matches(where, plain):
            return None
        if self.query.predicates and not self._passes(text):
            return None
        return Entry(self._order(key, plain), encode_key(key), key, text)

    def _passes(self, text: str) -> bool:
        doc = self.table.codec.decode(text)
        return all(holds(predicate, doc) for predicate in self.query.predicates)

    def _visible(self) -> list[Entry]:
        limit = self.query.limit
        return self._entries if limit is None else self._entries[:limit]

    def _difference(self, before: list[Entry], *, reset: bool) -> LiveChange[T]:
        visible = self._visible()
        old = {entry.name: entry for entry in before}
        now = {entry.name for entry in visible}
        return self._delivered(
            visible,
            [entry for entry in visible if entry.name not in old],
            [e for e in visible if e.name in old and old[e.name].text != e.text],
            [entry.key for entry in before if entry.name not in now],
            reset=reset,
        )

    def _delivered(
        self,
        visible: list[Entry],
        added: list[Entry],
        changed: list[Entry],
        removed: list[Key],
        *,
        reset: bool,
    ) -> LiveChange[T]:
        change = LiveChange(self.table.codec.decode, visible, added, changed, removed, reset=reset)
        # A list that later refreshes change in place belongs to the newest change alone.
        self._last = change if visible is self._entries else None
        return change
