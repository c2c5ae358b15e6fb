"""A live query is a local pull: what changed since change n, and the rows of those keys, in one
read transaction, evaluated when the consumer asks.

The view keeps the texts of its rows in the order of the query, from the first row on; with a limit
it keeps a margin of rows behind the last, so that a row that leaves has a successor at hand, and
runs the query again only when the margin is used up. A refresh changes nothing: it gives the step
to the next state, which the consumer takes when it has it in hand. A look that is cancelled half
way, or whose predicate raises, loses no change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from homeport.core import evaluate
from homeport.core.keys import encode_key
from homeport.core.livechange import LiveChange, Window, difference
from homeport.core.liverows import Entry, SortedRows
from homeport.core.models import decode_object
from homeport.core.operations import BOUNDED_KEYS, KEY_ORDER, passed, unfiltered
from homeport.core.paths import MISSING
from homeport.core.places import compile_place
from homeport.core.query import QueryValue
from homeport.core.requests import Changes, ChangeSet, Find, GetMany, Operation, Plan
from homeport.errors import UsageError

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.keys import Encoded, Key

T = TypeVar("T")

MARGIN = 32
"""Rows kept behind the limit of a live query."""

_BEGINNING: Final = ChangeSet(-1, {})


class Step(Generic[T]):
    """From one state of a view to the next.

    news: the change and the moment up to which it leads. change: what the consumer gets, None
    when the result is the same. rows: the rows that are held then, the margin included. names: rows
    that come (or, by None, go), by name; all=True: they are all there are. whole: nothing that
    matches is left out.
    """

    __slots__ = ("all", "change", "names", "news", "rows", "whole")

    def __init__(
        self,
        news: ChangeSet,
        change: LiveChange[T] | None,
        rows: SortedRows,
        names: dict[Encoded, Entry | None],
        *,
        whole: bool,
        all: bool = False,  # noqa: A002 - reads as it should
    ) -> None:
        self.news = news
        self.change = change
        self.rows = rows
        self.names = names
        self.whole = whole
        self.all = all


class View(Generic[T]):
    """The state of one live query."""

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
        self._decode = table.codec.decode
        self._typed = table.codec.keys.typed
        self._test = None if query.where is None else evaluate.compile_condition(query.where)
        self._place = compile_place(query.order)
        self._start = (
            None if query.after is None else evaluate.position_key(query.order, query.after)
        )
        # The consumer sees the rows from _low up to _end; None = to the last.
        self._low = query.offset
        self._end = None if query.limit is None else query.offset + query.limit
        self._at: dict[Encoded, Entry] = {}
        self._step: Step[T] = Step(
            _BEGINNING, None, SortedRows.of([], self._rank), {}, whole=True, all=True
        )

    @property
    def head(self) -> int:
        """The number of the last change that the consumer has seen; -1 before the first."""
        return self._step.news.head

    @property
    def until_ms(self) -> int | None:
        """When a document of the collection expires, so that it is time to look again."""
        return self._step.news.expires_ms

    def refresh(self, *, bounded: bool = False) -> Operation[Step[T] | None]:
        """→ the step to the present state. With ``bounded`` only if that costs little, else None:
        ask again without."""
        return Operation(self._refresh(bounded), "read", False, (self.table,), bounded)

    def take(self, step: Step[T]) -> LiveChange[T] | None:
        """Go on to the state of a step → what is new in it."""
        self._step = step
        return step.change

    def _refresh(self, bounded: bool) -> Plan[Step[T] | None]:
        now = self._known()
        first = now.news.head < 0
        if bounded and first:
            return None
        known = None if first else now.news.head
        news: ChangeSet = yield Changes(known, (self.table,), None if first else now.news.at_ms)
        if not first and news.keys is not None:
            keys = news.keys.get(self.table.name) or []
            if not keys:
                return Step(news, None, now.rows, {}, whole=now.whole)
            if bounded and len(keys) > BOUNDED_KEYS:
                return None
            if not self._too_many(len(keys)):
                texts: list[str | None] = yield GetMany(self.table, keys)
                step = self._moved(news, keys, texts)
                if step is not None or bounded:
                    return step
        elif bounded:
            return None
        return (yield from self._run_again(news, reset=first or news.keys is None))

    def _known(self) -> Step[T]:
        """The last step taken, with its rows under their names: done here and not when it was
        taken, because a Ctrl-C there would leave half of it undone."""
        step = self._step
        if step.all:
            self._at = cast("dict[Encoded, Entry]", step.names)
        else:
            for name, entry in step.names.items():
                if entry is None:
                    self._at.pop(name, None)
                else:
                    self._at[name] = entry
        step.names, step.all = {}, False
        return step

    def _too_many(self, changed: int) -> bool:
        """Would reading the changed documents cost more than reading the result?"""
        held = len(self._step.rows)
        return changed > BOUNDED_KEYS and changed > 2 * (held if self._end is None else self._end)

    # -- the whole result

    def _run_again(self, news: ChangeSet, *, reset: bool) -> Plan[Step[T]]:
        end = self._end
        query = unfiltered(self.query)
        if end is not None and not self.query.predicates:
            query = query.with_limit(end + MARGIN)
        found: list[tuple[Key, str]] = yield Find(self.table, query, "entries")
        held = self._at
        entries: list[Entry] = []
        for key, text in found:
            name = encode_key(key)
            known = held.get(name)
            if known is not None and known.text == text:
                entries.append(known)
            elif not self.query.predicates or self._passes(text):
                entries.append(Entry(key, name, text))
        whole = end is None or len(entries) < end + MARGIN
        if not whole and end is not None:
            del entries[end + MARGIN :]
        rows = SortedRows.of(entries, self._rank)
        windows = self._window(self._step.rows), self._window(rows)
        change = difference(self._decode, windows, reset=reset, typed=self._typed)
        delivered = change if len(change) or self._step.news.head < 0 else None
        names: dict[Encoded, Entry | None] = {entry.name: entry for entry in entries}
        return Step(news, delivered, rows, names, whole=whole, all=True)

    # -- a few rows of it

    def _moved(self, news: ChangeSet, keys: list[Key], texts: list[str | None]) -> Step[T] | None:
        """The step that these documents make; None when the margin does not suffice."""
        now = self._step
        rows = now.rows
        changes: dict[Encoded, tuple[Entry | None, Entry | None]] = {}
        for key, text in zip(keys, texts, strict=True):
            name = encode_key(key)
            old = self._at.get(name)
            if old is not None and text == old.text:
                continue
            new = None if text is None else self._entry_if_match(key, name, text)
            if new is not None and not now.whole and rows.behind(new.order):
                new = None  # behind the margin, where rows are not known
            if old is not None or new is not None:
                changes[name] = old, new
        if not changes:
            return Step(news, None, rows, {}, whole=now.whole)
        rows = rows.replaced(
            [old for old, _ in changes.values() if old is not None],
            [new for _, new in changes.values() if new is not None],
        )
        names = {name: new for name, (_, new) in changes.items()}
        whole, end = now.whole, self._end
        if end is not None:
            if not whole and len(rows) < end:
                return None
            if len(rows) > end + 2 * MARGIN:
                rows, rest = rows.cut(end + MARGIN)
                names.update((entry.name, None) for entry in rest)
                whole = False
        change = self._change(self._window(now.rows), self._window(rows), changes, names)
        return Step(news, change if len(change) else None, rows, names, whole=whole)

    def _change(
        self,
        before: Window,
        after: Window,
        changes: dict[Encoded, tuple[Entry | None, Entry | None]],
        held: dict[Encoded, Entry | None],
    ) -> LiveChange[T]:
        """What the consumer sees of these changes, and of the rows that they push over the edges
        of the window: at most as many at each edge as changes."""
        added: list[Entry] = []
        changed: list[tuple[Entry, Entry]] = []
        removed: list[Entry] = []
        for name, (old, new) in changes.items():
            was = old is not None and before.sees(old)
            sees = new is not None and held[name] is new and after.sees(new)
            if was and sees:
                assert old is not None
                assert new is not None
                changed.append((old, new))
            elif was and old is not None:
                removed.append(old)
            elif sees and new is not None:
                added.append(new)
        n = len(changes)
        edges = [self._low] if self._low else []
        if self._end is not None:
            edges.append(self._end)
        pushed: dict[Encoded, Entry] = {}
        for edge in edges:
            for window in (before, after):
                for entry in window.rows.between(edge - n, edge + n):
                    if entry.name not in changes:
                        pushed[entry.name] = entry
        for name, entry in pushed.items():
            was = before.sees(entry)
            sees = (name not in held or held[name] is not None) and after.sees(entry)
            if was and not sees:
                removed.append(entry)
            elif sees and not was:
                added.append(entry)
        windows = (before, after)
        return LiveChange(
            self._decode, windows, added, changed, removed, reset=False, typed=self._typed
        )

    # -- shared

    def _window(self, rows: SortedRows) -> Window:
        return Window(rows, self._low, self.query.limit)

    def _rank(self, entry: Entry) -> Any:
        order = entry.order
        if order is None:
            order = entry.order = self._place(entry.text, entry.key)
        return order

    def _entry_if_match(self, key: Key, name: Encoded, text: str) -> Entry | None:
        if self._test is not None and not self._test(decode_object(text)):
            return None
        order = self._place(text, key)
        if self._start is not None and not self._start < order:
            return None
        if self.query.predicates and not self._passes(text):
            return None
        return Entry(key, name, text, order)

    def _passes(self, text: str) -> bool:
        return passed(self._decode, self.query.predicates, text) is not MISSING
