"""The options of ``open`` as one value, checked before anything is touched."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from homeport.core.arguments import check_flag, check_function, check_seconds, check_whole
from homeport.core.fallbacks import STEPS, Fallback, MovedUp, Step
from homeport.core.indexing import Build, IndexProgress
from homeport.errors import UsageError
from homeport.storage.secret import DeviceKey, Secret

Durability: TypeAlias = Literal["full", "relaxed"]
OnFallback: TypeAlias = Callable[[Fallback | MovedUp], object]
Storage: TypeAlias = Literal["database", "simple"]

MIN_QUOTA_BYTES = 1024 * 1024
"""The smallest quota: an empty file with the library's own collections takes an eighth of it."""


class Options(NamedTuple):
    """What the arguments of ``open`` say; their meaning and defaults are told there."""

    durability: Durability
    readonly: bool
    busy_timeout_s: float
    cache_mb: int
    max_bytes: int | None
    key: Secret | DeviceKey | None
    long_transaction_s: float | None
    defer_indexes: bool
    index_progress: Callable[[IndexProgress], object] | None
    slow_query_ms: float | None
    result_cache_mb: float
    storage: Storage
    fallback: bool | Sequence[Step] = True
    on_fallback: OnFallback | None = None

    def check(self, *, browser: bool, memory: bool) -> None:
        """Raise ``UsageError`` for what cannot be. browser, memory: it is no file."""
        if self.storage not in ("database", "simple"):
            raise UsageError(f"storage is 'database' or 'simple', not {self.storage!r:.60}.")
        if self.storage == "simple":
            self._check_simple(memory=memory)
        elif browser and self.max_bytes is not None:
            raise UsageError(
                "max_bytes is no option of a database of the browser's, which has a quota of its "
                "own.",
                action="Leave it out; a write beyond that quota raises QuotaExceeded.",
            )
        check_function(self.on_fallback, "on_fallback", none=True)
        if any(step not in STEPS for step in self.steps):
            raise UsageError(
                f"fallback is True, False, or some of {STEPS}, not {self.fallback!r:.80}."
            )
        if self.key is not None and memory:
            raise UsageError("key= encrypts what is stored, and memory is no disk.")
        if isinstance(self.key, DeviceKey) and not browser:
            raise UsageError("A device key is a browser's; a file takes a passphrase or 32 bytes.")
        if self.durability not in ("full", "relaxed"):
            raise UsageError(f"durability is 'full' or 'relaxed', not {self.durability!r}.")
        check_flag(self.readonly, "readonly")
        check_seconds(self.busy_timeout_s, "busy_timeout_s")
        check_whole(self.cache_mb, "cache_mb", least=1)
        quota, long_s, slow_ms = self.max_bytes, self.long_transaction_s, self.slow_query_ms
        if quota is not None and (not isinstance(quota, int) or quota < MIN_QUOTA_BYTES):
            raise UsageError(f"max_bytes is at least {MIN_QUOTA_BYTES:,} bytes, not {quota!r}.")
        if long_s is not None and not long_s > 0:
            raise UsageError(f"long_transaction_s is above 0, or None, not {long_s!r}.")
        check_flag(self.defer_indexes, "defer_indexes")
        check_function(self.index_progress, "index_progress", none=True)
        in_steps = self.defer_indexes or self.index_progress is not None
        if in_steps and (browser or self.storage == "simple"):
            raise UsageError(
                "Only a file of SQLite builds indexes in steps: defer_indexes and index_progress "
                "are no options here.",
                action="Leave them out.",
            )
        if slow_ms is not None and (not isinstance(slow_ms, (int, float)) or not slow_ms >= 0):
            raise UsageError(
                f"slow_query_ms is a number of milliseconds from 0, or None, not {slow_ms!r:.60}."
            )
        cache_mb = self.result_cache_mb
        if not isinstance(cache_mb, (int, float)) or not 0 <= cache_mb < math.inf:
            raise UsageError(f"result_cache_mb is a number from 0, not {cache_mb!r:.60}.")
        if cache_mb and browser:
            raise UsageError("result_cache_mb is no option of a database of the browser's.")

    def _check_simple(self, *, memory: bool) -> None:
        if memory:
            raise UsageError(
                "storage='simple' keeps documents, and ':memory:' does not.",
                action="Leave it out, or give a name.",
            )
        if self.key is not None:
            raise UsageError(
                "key= is for ordinary files: a simple store is not encrypted.",
                action="Leave it out, or leave storage='simple' out.",
            )

    @property
    def file_key(self) -> Secret | None:
        """The key of a file (``check`` has refused another one)."""
        return self.key if isinstance(self.key, Secret) else None

    @property
    def steps(self) -> tuple[Step, ...]:
        """Where to go, in order, when the browser refuses IndexedDB."""
        given = self.fallback
        if isinstance(given, bool):
            return STEPS if given else ()
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise UsageError(f"fallback is True, False, or some of {STEPS}, not {given!r:.80}.")
        return tuple(given)

    @property
    def cache_bytes(self) -> int:
        return round(self.result_cache_mb * 1024 * 1024)

    @property
    def build(self) -> Build:
        return Build(not self.defer_indexes, self.index_progress)

    @property
    def slow_s(self) -> float | None:
        return None if self.slow_query_ms is None else self.slow_query_ms / 1000
