"""Warnings before the quota: which part of it has just been passed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from homeport.errors import UsageError

LEVELS: Final = (0.8, 0.95)
"""Writes are refused a little below the whole, so that there is room left to make room."""

BACK: Final = 0.05
"""A level is told again once use has been this much below it: no warning for every write there."""


@dataclass(frozen=True, slots=True)
class QuotaNotice:
    """A database has come to a part of its quota.

    Attributes:
        used_bytes: what it takes now. max_bytes: what it may take.
        level: the part that was passed, of those that were asked for.
    """

    used_bytes: int
    max_bytes: int
    level: float

    @property
    def fraction(self) -> float:
        """used_bytes / max_bytes."""
        return self.used_bytes / self.max_bytes


class QuotaWatch:
    """Calls a function once whenever a level is passed; ``look`` after each commit."""

    def __init__(
        self,
        used: Callable[[], tuple[int, int] | None],
        tell: Callable[[QuotaNotice], object],
        levels: Iterable[float],
    ) -> None:
        """used: (bytes used, max_bytes), None when there is no quota."""
        self._used = used
        self._tell = tell
        self._levels = _checked(levels)
        self._passed: set[float] = set()
        if used() is None:
            raise UsageError(
                "This database has no quota to warn of.", action="Open it with max_bytes=..."
            )

    def look(self) -> None:
        found = self._used()
        if found is None:
            return
        used, most = found
        part = used / most
        self._passed = {level for level in self._passed if part > level - BACK}
        news = [level for level in self._levels if part >= level and level not in self._passed]
        self._passed.update(news)
        if news:
            self._tell(QuotaNotice(used, most, news[-1]))


def _checked(levels: Iterable[float]) -> list[float]:
    listed = list(levels) if isinstance(levels, Iterable) and not isinstance(levels, str) else []
    good = all(type(level) in (int, float) and 0 < level < 1 for level in listed)
    if not listed or not good:
        raise UsageError(
            f"levels= takes parts of the quota between 0 and 1, not {levels!r:.60}.",
            action="For example levels=(0.8, 0.95).",
        )
    return sorted(set(listed))
