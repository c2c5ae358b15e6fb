"""Versions of a collection's documents side by side.

A program declares the version of the documents it writes, and how older ones become such. It lives
wholly in the form of its own version: what comes from the server in an older form is raised at the
door, what the file holds is raised when a newer program opens it first. Documents of a newer
version stay as they are, and their unknown fields are kept. Nothing is written to the server for
being raised; but the first edit of such a document goes out whole, so that the server never holds
half of one form and half of another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from homeport.core import diff
from homeport.errors import SchemaError

Upcaster: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""A document of one version, as plain JSON → the same of the next. Pure; it may change and return
what it is given."""

_RAISED: Final = "~"
"""In front of the version token of a row that stands here in a newer form than on the server."""


class Versions:
    """The version of a collection, and the steps that lead to it.

    Args:
        version: of the documents that are written, from 1.
        upcasters: version → the function that makes the next version of it; a version without one
            is read as the next as it is.
        what: for messages.

    Raises:
        SchemaError: no such version, or a step that leads nowhere.
    """

    __slots__ = ("current", "steps")

    def __init__(
        self, version: int, upcasters: Mapping[int, Upcaster] | None, what: str, *, least: int = 1
    ) -> None:
        whole = isinstance(version, int) and not isinstance(version, bool)
        if not whole or not 1 <= version < 2**31:
            raise SchemaError(f"{what}: version= is a whole number from 1 on, not {version!r}.")
        if not isinstance(least, int) or not 1 <= least <= version:
            raise SchemaError(f"{what}: minimum= is a version from 1 to {version}, not {least!r}.")
        if upcasters is not None and not isinstance(upcasters, Mapping):
            raise SchemaError(
                f"{what}: upcasters= takes a dict of version and function, not {upcasters!r:.60}."
            )
        for number, step in (upcasters or {}).items():
            if not isinstance(number, int) or not 1 <= number < version or not callable(step):
                raise SchemaError(
                    f"{what}: upcasters= has {number!r}: {step!r:.60}; a step leads from a version "
                    f"between 1 and {version - 1} to the next, by a function."
                )
        self.current = version
        self.steps = dict(upcasters or {})

    def raised(self, document: dict[str, Any], version: int, to: int | None = None) -> Any:
        """A document of ``version`` in the form of ``to`` (default: of this declaration). Raises
        what the functions raise, and ``TypeError`` when one returns no document."""
        for number in range(version, self.current if to is None else min(to, self.current)):
            step = self.steps.get(number)
            if step is not None:
                document = step(document)
                if not isinstance(document, dict):
                    kind = type(document).__name__
                    raise TypeError(f"The upcaster of version {number} returned {kind}, no dict.")
        return document

    def raised_text(self, text: str, version: int, to: int | None = None) -> str:
        """The same of a stored text; the text itself where nothing changes or it is no document."""
        last = self.current if to is None else min(to, self.current)
        if not any(number in self.steps for number in range(version, last)):
            return text
        document = msgspec.json.decode(text)
        if not isinstance(document, dict):
            return text
        after = self.raised(document, version, to)
        return text if diff.same(after, msgspec.json.decode(text)) else diff.dump(after)


UNVERSIONED: Final = Versions(1, None, "")


def mark_raised(token: str | None) -> str | None:
    """The token of a row that is newer here than on the server."""
    return token if token is None or is_raised(token) else _RAISED + token


def is_raised(token: str | None) -> bool:
    return token is not None and token.startswith(_RAISED)


def plain_token(token: str | None) -> str | None:
    """The token as the server gave it."""
    return token.removeprefix(_RAISED) if token is not None else None
