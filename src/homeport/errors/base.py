"""The root of the tree."""

from __future__ import annotations

from collections.abc import Mapping


class LongTransactionWarning(UserWarning):
    """A transaction is open for longer than ``long_transaction_s`` while others wait for it."""


class RiskyPlaceWarning(UserWarning):
    """The file is where a database is in danger: on a network file system, or with two names."""


class StorageFallbackWarning(UserWarning):
    """The browser refused IndexedDB and the database is kept elsewhere; or it was moved back."""


def printable(text: str) -> str:
    """Lone surrogates escaped: what a message quotes may hold some, and then neither a terminal nor
    a log could take it."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


class HomeportError(Exception):
    """Root of all errors of this package.

    Attributes:
        code: stable, kebab-case name of the class of error.
        message: what happened.
        action: what to do about it.
        context: facts about this occurrence (collection, key, path, ...).
    """

    code = "homeport"
    action = "See the message."

    def __init__(self, message: str, *, action: str | None = None, **context: object) -> None:
        message = printable(message)
        self.message = message
        if action is not None:
            self.action = printable(action)
        self.context: Mapping[str, object] = context
        super().__init__(f"{message} {self.action}" if self.action else message)
