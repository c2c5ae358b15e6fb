"""Where a bulk load takes its documents from, in its two forms. Written by hand: the generator of
the blocking facade replaces the names of the first form by those of the second."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sized
from itertools import islice
from typing import Any, Generic, TypeAlias, TypeVar

from homeport.errors import UsageError

T = TypeVar("T")

AsyncItems: TypeAlias = Iterable[T] | AsyncIterable[T]
Items: TypeAlias = Iterable[T]


class AsyncSource(Generic[T]):
    """Documents of any iterable or async iterable, some at a time."""

    def __init__(self, items: AsyncItems[T]) -> None:
        self.size = len(items) if isinstance(items, Sized) else None
        self._later: AsyncIterator[T] | None = None
        self._now: Iterator[T] | None = None
        if isinstance(items, AsyncIterable):
            self._later = aiter(items)
        else:
            self._now = iter(_checked(items))

    async def take(self, count: int) -> list[T]:
        """Up to so many items; none at the end."""
        if self._now is not None:
            from asyncio import sleep  # noqa: PLC0415 - a loop runs, so it is loaded already

            await sleep(0)  # other tasks get their turn between two slices
            return list(islice(self._now, count))
        assert self._later is not None
        found: list[T] = []
        async for item in self._later:
            found.append(item)
            if len(found) == count:
                break
        return found

    async def skip(self, count: int) -> int:
        """Pass over so many items → how many there were."""
        passed = 0
        while passed < count and (items := await self.take(min(1_000, count - passed))):
            passed += len(items)
        return passed


class Source(Generic[T]):
    """Documents of any iterable, some at a time."""

    def __init__(self, items: Items[T]) -> None:
        if isinstance(items, AsyncIterable):
            raise UsageError(
                "A blocking database cannot read an async iterable.",
                action="Open it with hp.open_async(), or give it a plain generator.",
            )
        self.size = len(items) if isinstance(items, Sized) else None
        self._now = iter(_checked(items))

    def take(self, count: int) -> list[T]:
        """Up to so many items; none at the end."""
        return list(islice(self._now, count))

    def skip(self, count: int) -> int:
        """Pass over so many items → how many there were."""
        return sum(1 for _ in islice(self._now, count))


def _checked(items: Any) -> Any:
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        raise UsageError(
            f"load() takes an iterable of documents, not {type(items).__name__}.",
            action="Put a single document by put().",
        )
    return items
