"""What Firefox says when a site has used up its room.

Behind a write that was too much, Firefox 153 also refuses the next one on that connection, whatever
it is (a deletion, too), and not for want of room: "A mutation operation was attempted on a database
that did not allow mutations".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from homeport.core.requests import Mode
from homeport.errors import HomeportError, StorageError
from homeport.storage.indexeddb_errors import translate
from homeport.storage.indexeddb_schema import NAMED, Stepped
from homeport.storage.indexeddb_wire import ask

if TYPE_CHECKING:
    from homeport.storage.indexeddb_flight import Flight


class Room:
    """Of one connection."""

    def __init__(self) -> None:
        self._refused = False

    def error(self, name: str, text: str, database: str) -> HomeportError:
        """``translate``, where writes that were under way together are refused for one reason."""
        if name == "QuotaExceededError":
            self._refused = True
        elif name == "InvalidStateError" and self._refused:
            name = "QuotaExceededError"
        return translate(name, text, database)

    async def settle(self, fly: Callable[[Stepped[Any], Mode, Sequence[str]], Flight[Any]]) -> None:
        """Behind a refused write: let the next one be ours, which changes nothing."""
        with suppress(StorageError):
            steps = ask({"op": "named", "get": [], "set": [["nothing", None]]})
            await fly(steps, "write", [NAMED]).landing
        self._refused = False
