"""What a connection to a database of the browser keeps in memory: texts of documents by key, and
answers of queries.

Never stale: the cache as a whole stands at one state, the number of the last row of the change log,
and nothing is taken from it before a read transaction has seen that no row was appended since, in
the same snapshot in which it would have read the documents, or while nobody else can have appended
one (``indexeddb_alone``). Rows that were appended, by whatever tab, say what to drop: documents by
key, the answers of their collection; a row that names no keys drops the collection. What a
transaction has read is kept only when the cache still stands at the state which that transaction
sees.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from homeport.core.keys import Encoded, Key, encode
from homeport.storage.indexeddb_wire import ask, ask_texts

if TYPE_CHECKING:
    from homeport.core.codec import Table

OVERHEAD_BYTES: Final = 200
"""An entry itself, and its key."""

TEXT_BYTES: Final = 57
"""A text has so many bytes beside its characters."""

LARGEST_SHARE: Final = 2
"""An answer that would take more than this part of the cache is not kept."""

ROWS_MOST: Final = 300
"""Behind so many rows of the log it begins anew."""

Name: TypeAlias = tuple[str, Any]
"""Collection, and a storable key or what a query asks."""

Logged: TypeAlias = tuple[int, Mapping[str, Sequence[Key] | None]]
"""A row of the log: its number, and the keys of what was written."""

NO_ROW: Final[Logged] = (0, {})
"""A transaction that has changed no documents."""

_body = msgspec.json.Decoder(dict[str, list[Any] | None]).decode


class Kept:
    """The texts and answers of a connection, those used last at the end."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = self.misses = 0
        self.head = -1
        """The row of the log for which everything here holds; -1 = there is nothing."""
        self.lives = 0
        """How often it was emptied: a transaction from before keeps nothing."""
        self._entries: OrderedDict[Name, tuple[Any, int]] = OrderedDict()
        self._answers: dict[str, set[Name]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def cacheable(self, table: Table[Any]) -> bool:
        """Are its changes logged, and do its documents stay until somebody writes?"""
        collection = table.collection
        return (
            self.max_bytes > 0
            and collection.track_changes
            and not collection.expiring
            and not table.system
        )

    # -- what a transaction does

    def current(self) -> Generator[str, str, bool]:
        """Bring the cache to the state that this read transaction sees → whether it is there; else
        (another one has seen a later state) it is of no use to this transaction."""
        after, lives = self.head, self.lives
        if after < 0:
            ((head, _),) = yield from ask({"op": "head"})
            if self.head < 0 and self.lives == lives:
                self.head = head
            return self.head == head and self.lives == lives
        (numbers,), bodies = yield from ask_texts(
            {"op": "changes", "after": after, "most": ROWS_MOST}
        )
        if self.lives != lives:
            return False
        head = numbers[-1] if numbers else after
        if self.head == after and numbers:
            if numbers[0] != after + 1 or len(numbers) == ROWS_MOST:
                self.clear()  # the log does not reach back that far, or there may be more of it
                return False
            for body in bodies:
                self._changed(_body(body))
            self.head = head
        return self.head == head

    def wrote(self, logged: Logged) -> bool:
        """A transaction of this connection is committed → False: others have written before it, of
        which nothing is known here."""
        row, body = logged
        if row <= self.head or self.head < 0:
            return True  # its row was read already, or there is nothing in memory
        if row != self.head + 1:
            return False
        self._changed(body)
        self.head = row
        return True

    def _changed(self, body: Mapping[str, Sequence[Key] | None]) -> None:
        for name, keys in body.items():
            for answer in self._answers.pop(name, ()):
                self._drop(answer)
            if keys is None:
                for entry in [one for one in self._entries if one[0] == name]:
                    self._drop(entry)
            else:
                for key in keys:
                    self._drop((name, encode(key)))

    def clear(self) -> None:
        """Forget everything: the database may be another one, or the log has forgotten too much."""
        self._entries.clear()
        self._answers.clear()
        self.bytes = 0
        self.head = -1
        self.lives += 1

    # -- texts and answers: taken out right behind ``current``; put in while ``state`` is as it was

    @property
    def state(self) -> tuple[int, int]:
        """Equal as long as it was neither emptied nor brought to a later row of the log."""
        return self.lives, self.head

    def text(self, table: Table[Any], key: Encoded | None) -> str | None:
        """The text of a document; None when it is not here (or there is no such document)."""
        found: str | None = self._find((table.name, key))
        return found

    def keep_text(self, table: Table[Any], key: Encoded | None, text: str) -> None:
        self._keep((table.name, key), text, OVERHEAD_BYTES + TEXT_BYTES + len(text))

    def answer(self, table: Table[Any], asked: Any) -> Any:
        """The answer to a query; None when it is not here."""
        return self._find((table.name, asked))

    def keep_answer(self, table: Table[Any], asked: Any, answer: Any) -> None:
        size = _size_of(answer)
        if size is None or size * LARGEST_SHARE > self.max_bytes:
            return
        name = (table.name, asked)
        self._answers.setdefault(table.name, set()).add(name)
        self._keep(name, answer, 2 * OVERHEAD_BYTES + size)

    def _find(self, name: Name) -> Any:
        entry = self._entries.get(name)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(name)
        return entry[0]

    def _keep(self, name: Name, value: Any, size: int) -> None:
        self._forget(name)
        self._entries[name] = value, size
        self.bytes += size
        while self.bytes > self.max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, name: Name) -> None:
        self._forget(name)
        answers = self._answers.get(name[0])
        if answers is not None:
            answers.discard(name)

    def _forget(self, name: Name) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self.bytes -= entry[1]


def _size_of(answer: Any) -> int | None:
    """About its bytes; None for one whose receiver could change what is kept."""
    if type(answer) is not list:
        return 32
    total = 0
    for item in answer:
        if type(item) is list:
            return None
        total += TEXT_BYTES + len(item) if type(item) in (str, bytes) else 40
    return total
