"""The rows of a live query: a sorted sequence in chunks, of which every state is a value.

A change copies the chunks it touches and the list of chunks, and shares all others with the state
before, so that a result of 100,000 rows moves on at the price of about a thousand pointers, and
whoever holds an earlier state keeps it. (The usual persistent sequence, two levels deep.)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, overload

if TYPE_CHECKING:
    from homeport.core.keys import Encoded, Key

T = TypeVar("T")

CHUNK_ROWS = 256
"""A chunk is cut in two at twice this size."""

FEW_MOVES = 16
"""Of more rows than that, all chunks are counted anew when somebody asks."""


class Entry:
    """A row of the result.

    name: its key in storable form. order: its place, None until somebody asks for it: of 100,000
    rows that the store has sorted already, a change asks for seventeen.
    """

    __slots__ = ("key", "name", "order", "text")

    def __init__(self, key: Key, name: Encoded, text: str, order: Any = None) -> None:
        self.key = key
        self.name = name
        self.text = text
        self.order = order


Rank: TypeAlias = Callable[[Entry], Any]
"""An entry → its place in the order of the query; no two entries have the same."""


class SortedRows:
    """One state of the rows, in order; it never changes."""

    __slots__ = ("_chunks", "_rank", "_size", "_starts")

    def __init__(self, chunks: list[list[Entry]], rank: Rank, size: int) -> None:
        self._chunks = chunks
        self._rank = rank
        self._size = size
        self._starts: list[int] | None = None

    @classmethod
    def of(cls, entries: list[Entry], rank: Rank) -> SortedRows:
        """Entries that are in order already."""
        step = CHUNK_ROWS
        return cls(
            [entries[at : at + step] for at in range(0, len(entries), step)], rank, len(entries)
        )

    @property
    def starts(self) -> list[int]:
        """The number of the first row of each chunk, and of all rows."""
        if self._starts is None:
            self._starts = list(accumulate(map(len, self._chunks), initial=0))
        return self._starts

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Entry]:
        for chunk in self._chunks:
            yield from chunk

    def at(self, row: int) -> Entry:
        """The entry of a row, 0 ≤ row < len."""
        place = bisect_right(self.starts, row) - 1
        return self._chunks[place][row - self.starts[place]]

    def between(self, low: int, high: int) -> Iterator[Entry]:
        """The entries of the rows low ≤ row < high, as far as there are any."""
        low = max(low, 0)
        place = bisect_right(self.starts, low) - 1
        left = high - low
        skip = low - self.starts[place]
        for chunk in self._chunks[place:]:
            if left <= 0:
                return
            part = chunk[skip : skip + left]
            yield from part
            left -= len(part)
            skip = 0

    def find(self, order: Any) -> int:
        """The row that an entry of this place has, or would have."""
        place = self._chunk_of(self._chunks, order)
        if place == len(self._chunks):
            return len(self)
        return self.starts[place] + bisect_left(self._chunks[place], order, key=self._rank)

    def row(self, entry: Entry) -> int:
        """The row of an entry."""
        return self.find(self._rank(entry))

    def behind(self, order: Any) -> bool:
        """Does this place come after all rows?"""
        return self._chunk_of(self._chunks, order) == len(self._chunks)

    def _chunk_of(self, chunks: list[list[Entry]], order: Any) -> int:
        rank = self._rank
        return bisect_left(chunks, order, key=lambda chunk: rank(chunk[-1]))

    def replaced(self, gone: Iterable[Entry], come: Iterable[Entry]) -> SortedRows:
        """The state without the entries ``gone`` and with ``come``."""
        chunks, rank, size = [*self._chunks], self._rank, self._size
        own: set[int] = set()  # chunks made here, which may be changed in place
        moved: list[tuple[int, int]] = []  # (chunk, rows more), while the chunks stay the same ones
        same = True

        def mine(place: int) -> list[Entry]:
            chunk = chunks[place]
            if id(chunk) not in own:
                chunk = chunks[place] = [*chunk]
                own.add(id(chunk))
            return chunk

        for entry in gone:
            size -= 1
            order = rank(entry)
            place = self._chunk_of(chunks, order)
            chunk = mine(place)
            del chunk[bisect_left(chunk, order, key=rank)]
            moved.append((place, -1))
            if not chunk:
                del chunks[place]
                same = False
        for entry in come:
            size += 1
            if not chunks:
                chunks.append([entry])
                same = False
                continue
            order = rank(entry)
            place = min(self._chunk_of(chunks, order), len(chunks) - 1)
            chunk = mine(place)
            chunk.insert(bisect_left(chunk, order, key=rank), entry)
            moved.append((place, 1))
            if len(chunk) > 2 * CHUNK_ROWS:
                chunks[place : place + 1] = [chunk[:CHUNK_ROWS], chunk[CHUNK_ROWS:]]
                same = False
        state = SortedRows(chunks, rank, size)
        if same and self._starts is not None and 0 < len(moved) <= FEW_MOVES:
            state._starts = _shifted(self._starts, moved)
        return state

    def cut(self, rows: int) -> tuple[SortedRows, list[Entry]]:
        """The first so many rows, and the entries behind them."""
        rest = list(self.between(rows, len(self)))
        place = bisect_right(self.starts, rows) - 1
        chunks = self._chunks[:place]
        if rows > self.starts[place]:
            chunks.append(self._chunks[place][: rows - self.starts[place]])
        return SortedRows(chunks, self._rank, rows), rest


def _shifted(starts: list[int], moved: list[tuple[int, int]]) -> list[int]:
    """The numbers of the first rows of the same chunks with other rows in a few of them. To count
    all chunks anew takes half of the time of a change in 100,000 rows."""
    found, more = [*starts], 0
    moved.sort()
    ends = [*[place for place, _ in moved[1:]], len(starts) - 1]
    for (place, change), end in zip(moved, ends, strict=True):
        more += change
        if more and end > place:
            found[place + 1 : end + 1] = [start + more for start in found[place + 1 : end + 1]]
    return found


class LiveRows(Sequence[T], Generic[T]):
    """The documents of a live query at one moment, in its order: a sequence that decodes a document
    when it is asked for. It never changes; keep it as long as you like.

    ``rows[5]`` is a document, ``rows[10:20]`` a list of them; the other rows are not touched. Each
    access gives a document of its own.
    """

    __slots__ = ("_decode", "_high", "_low", "_rows")

    def __init__(self, rows: SortedRows, low: int, high: int, decode: Callable[[str], T]) -> None:
        self._rows = rows
        self._low = min(low, len(rows))
        self._high = min(high, len(rows))
        self._decode = decode

    def __len__(self) -> int:
        return self._high - self._low

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return [self._decode(entry.text) for entry in self._entries(start, stop)]
            return [self[row] for row in range(start, stop, step)]
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexError(f"There is no row {index}; the result has {len(self)}.")
        return self._decode(self._rows.at(self._low + row).text)

    def __iter__(self) -> Iterator[T]:
        decode = self._decode
        return (decode(entry.text) for entry in self._entries(0, len(self)))

    def __reversed__(self) -> Iterator[T]:
        return (self[row] for row in range(len(self) - 1, -1, -1))

    def key(self, row: int) -> Key:
        """The document key of a row; its document is not decoded."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"There is no row {row}; the result has {len(self)}.")
        return self._rows.at(self._low + row % len(self)).key

    def keys(self) -> list[Key]:
        """The document keys of all rows."""
        return [entry.key for entry in self._entries(0, len(self))]

    def __eq__(self, other: object) -> bool:
        """Equal to any sequence of the same documents, a list too."""
        if isinstance(other, (str, bytes)) or not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, islice(self, 3)))
        return f"<{len(self)} rows: [{shown}{', ...' if len(self) > 3 else ''}]>"

    def _entries(self, start: int, stop: int) -> Iterator[Entry]:
        return self._rows.between(self._low + start, self._low + stop)
