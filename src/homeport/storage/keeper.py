"""What makes a simple store durable: a small mapping of texts, each commit of it whole or not at
all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Keeper(Protocol):
    """Keeps texts by name. Every text is JSON."""

    @property
    def engine(self) -> str:
        """What ``storage_info()`` calls it."""
        ...

    def load(self) -> dict[str, str]:
        """Everything there is. Raises ``CannotOpen``, ``Corrupted``, ``FileTooNew``."""
        ...

    def write(self, changes: Mapping[str, str | None]) -> None:
        """Make these changes (None removes) durable together. Whatever it raises, none of them was
        made."""
        ...

    def free_bytes(self) -> int | None:
        """How much more there is room for, about; None = unknown."""
        ...

    def close(self) -> None:
        """Let others have it; silent when it is closed already."""
        ...


class Forgetful:
    """A keeper that keeps nothing: for a store that lives in this page only."""

    engine = "memory"

    def __init__(self, items: Mapping[str, str] | None = None) -> None:
        """items: what the store begins with."""
        self._items = dict(items or {})

    def load(self) -> dict[str, str]:
        return self._items

    def write(self, changes: Mapping[str, str | None]) -> None:
        """Nothing to do."""

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        """Nothing is held."""
