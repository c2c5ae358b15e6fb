"""Reads by key that are asked for at the same time go together in one transaction.

The first ones go at once. What is asked for while ``MOST`` of them are under way waits until one
has ended, and is then read in one request with everything that waits beside it: the group commit of
databases, for reads. A lone read waits for nothing, and no answer is older than its question.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from homeport.core.requests import Get, GetMany, Request

if TYPE_CHECKING:
    from asyncio import Future, Task

MOST: Final = 2
CHUNK_KEYS: Final = 500

Waiting: TypeAlias = "list[tuple[Get, Future[str | None]]]"


class GatheredGets:
    """ask: answer a request in a transaction of its own."""

    def __init__(self, ask: Callable[[Request], Awaitable[Any]]) -> None:
        self._ask = ask
        self._flying = 0
        self._waiting: Waiting = []
        self._tasks: set[Task[None]] = set()

    async def get(self, request: Get) -> str | None:
        if self._flying < MOST:
            self._flying += 1
            try:
                text: str | None = await self._ask(request)
            finally:
                self._landed()
            return text
        from asyncio import get_running_loop  # noqa: PLC0415 - a loop runs

        answer: Future[str | None] = get_running_loop().create_future()
        self._waiting.append((request, answer))
        return await answer

    async def settled(self) -> None:
        """Wait until nothing is asked any more."""
        from asyncio import sleep, wait  # noqa: PLC0415 - a loop runs

        while self._tasks or self._waiting:
            if self._tasks:
                await wait(set(self._tasks))
            else:
                await sleep(0)  # the callers of those under way have yet to see them end

    def _landed(self) -> None:
        self._flying -= 1
        self._waiting = [one for one in self._waiting if not one[1].done()]  # cancelled
        if not self._waiting:
            return
        from asyncio import ensure_future  # noqa: PLC0415 - a loop runs

        table = self._waiting[0][0].table
        group = [one for one in self._waiting if one[0].table is table][:CHUNK_KEYS]
        taken = set(map(id, group))
        self._waiting = [one for one in self._waiting if id(one) not in taken]
        self._flying += 1
        task = ensure_future(self._together(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _together(self, group: Waiting) -> None:
        try:
            try:
                keys = [request.key for request, _ in group]
                texts = await self._ask(GetMany(group[0][0].table, keys))
            except Exception:
                # One of them may be to blame: each learns what is its own.
                for request, answer in group:
                    await self._alone(request, answer)
            else:
                for (_, answer), text in zip(group, texts, strict=True):
                    if not answer.done():
                        answer.set_result(text)
        finally:
            for _, answer in group:
                answer.cancel()  # of a loop that ends: nothing when it is answered
            self._landed()

    async def _alone(self, request: Get, answer: Future[str | None]) -> None:
        if answer.done():
            return
        try:
            text = await self._ask(request)
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(text)
