"""Where a bulk load takes its documents from, in its two forms. Written by hand: the generator of
the blocking facade replaces the names of the first form by those of the second."""

from __future__ import annotations

import sys
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sized,
)
from itertools import islice
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar

from homeport.errors import UsageError

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

AsyncItems: TypeAlias = Iterable[T] | AsyncIterable[T]
Items: TypeAlias = Iterable[T]


class AsyncSource(Generic[T]):
    """Documents of any iterable or async iterable, some at a time."""

    def __init__(self, items: AsyncItems[T], *, waits: bool = False) -> None:
        """waits: taking items waits for a disk, so it is done away from the event loop."""
        self._hands = AsyncHands() if waits else None
        self.size = len(items) if isinstance(items, Sized) else None
        self._later: AsyncIterator[T] | None = None
        self._now: Iterator[T] | None = None
        if isinstance(items, AsyncIterable):
            self._later = aiter(items)
        else:
            self._now = iter(_checked(items))

    async def take(self, count: int) -> list[T]:
        """Up to so many items; none at the end."""
        items = self._now
        if items is not None:
            if self._hands is not None:
                return await self._hands.call(lambda: list(islice(items, count)))
            from asyncio import sleep  # noqa: PLC0415 - a loop runs, so it is loaded already

            await sleep(0)  # other tasks get their turn between two slices
            return list(islice(items, count))
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

    def __init__(self, items: Items[T], *, waits: bool = False) -> None:  # noqa: ARG002 (all do)
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


class AsyncHands:
    """Does work that waits for a disk, away from the event loop."""

    async def call(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What ``fn`` returns; cancelling waits for its end."""
        if sys.platform == "emscripten":
            return fn(*args, **kwargs)  # there are no threads
        from asyncio import CancelledError, get_running_loop, shield  # noqa: PLC0415

        work = get_running_loop().run_in_executor(None, lambda: fn(*args, **kwargs))
        try:
            return await shield(work)
        except CancelledError:
            # Nobody else may use what it is using before it has let go.
            while not work.done():
                try:
                    await shield(work)
                except CancelledError:
                    continue
                except Exception:
                    break  # the cancellation is what is told
            raise


class Hands:
    """Does it here."""

    def call(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What ``fn`` returns."""
        return fn(*args, **kwargs)


def _checked(items: Any) -> Any:
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        raise UsageError(
            f"load() takes an iterable of documents, not {type(items).__name__}.",
            action="Put a single document by put().",
        )
    return items
