"""Beginning anew with the server, the way the user chose.

- ``recover``: the queue, and what a restored server lost, are merged onto fresh data;
- ``recover-else-export``: the same; what cannot be applied any more goes to a file;
- ``discard``: the queue goes to a file, and the file of the database takes the server's state;
- ``manual``: nothing happens until somebody calls ``sync.recover(...)``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from homeport.core import conflicts
from homeport.core.context import Event, Tables
from homeport.core.exporting import letters_of
from homeport.core.outbox import META_CLIENT
from homeport.core.requests import Meta, Plan
from homeport.core.reset import give_up, reset
from homeport.errors import HomeportError, UsageError
from homeport.transport.exports import write_lines

OnReset: TypeAlias = Literal["recover", "recover-else-export", "discard", "manual"]
STRATEGIES: Final = get_args(OnReset)


def checked(strategy: str) -> OnReset:
    """Raises ``UsageError`` for a strategy that does not exist."""
    if strategy not in STRATEGIES:
        raise UsageError(
            f"There is no recovery {strategy!r}.", action=f"Use one of {', '.join(STRATEGIES)}."
        )
    return strategy  # type: ignore[return-value]


class Recovery:
    """Carries a strategy out. path: of the database; exports are put beside it."""

    def __init__(
        self,
        write: Callable[[Plan[Any]], Awaitable[Any]],
        tables: Tables,
        path: str,
        strategy: OnReset,
        tell: Callable[[Event], None],
        new_id: Callable[[], str],
        now_ms: Callable[[], int],
    ) -> None:
        self.strategy: OnReset = strategy
        self._write = write
        self._tables = tables
        self._path = path
        self._tell = tell
        self._new_id = new_id
        self._now_ms = now_ms
        self.encrypted = False
        """Is the database? Then nothing of it is put into a file beside it."""
        self._exports = False
        """Of the first cut after the reset, what cannot be applied goes to a file."""
        self._known: set[str] = set()

    async def begin(self, seen: str, error: HomeportError) -> None:
        """The server does not accept where this file stands. Raises ``error`` under ``manual``."""
        if self.strategy == "manual":
            raise error
        await self.begin_by(self.strategy, seen, str(error))

    async def begin_by(self, strategy: OnReset, seen: str | None, why: str) -> None:
        """Begin anew; silent when another worker did (the file's id is no longer ``seen``)."""
        current = await self._write(_client())
        if seen is not None and current != seen:
            return
        if strategy == "discard":
            letters: list[str] = await self._write(give_up(self._tables))
            await self._export(letters)
        self._exports = strategy == "recover-else-export"
        if self._exports:
            self._known = {letter.id for letter in await self._write(conflicts.list_dead())}
        if await self._write(reset(self._new_id(), seen=current)):
            self._tell(Event("reset", self._now_ms(), detail=why))

    async def applied(self) -> None:
        """A whole cut was applied."""
        if not self._exports:
            return
        self._exports = False
        letters = await self._write(conflicts.list_dead())
        await self._export([letter.id for letter in letters if letter.id not in self._known])

    async def _export(self, ids: Sequence[str]) -> None:
        """Move dead letters to a file. Where there is no place for one, they stay in the list."""
        if not ids or self._path in ("", ":memory:"):
            return
        if self.encrypted:
            detail = f"{len(ids)} units stay in the dead letters: the database is encrypted"
            self._tell(Event("kept", self._now_ms(), detail=detail))
            return
        file = Path(self._path)
        target = file.with_name(f"{file.name}.unsent-{self._now_ms()}.ndjson")
        try:
            write_lines(target, await self._write(letters_of(ids)))
        except HomeportError as error:
            self._tell(Event("failed", self._now_ms(), detail=str(error)))
            return
        for each in ids:
            await self._write(conflicts.discard(each))
        self._tell(Event("exported", self._now_ms(), detail=str(target)))


def _client() -> Plan[str]:
    return (yield Meta(META_CLIENT)) or ""
