"""The root of the tree."""

from __future__ import annotations

from collections.abc import Mapping


class LongTransactionWarning(UserWarning):
    """A transaction is open for longer than ``long_transaction_s`` while others wait for it."""


class RiskyPlaceWarning(UserWarning):
    """The file is where a database is in danger: on a network file system, or with two names."""


class StorageFallbackWarning(UserWarning):
    """The browser refused IndexedDB and the database is kept elsewhere; or it was moved back."""


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
        self.message = message
        if action is not None:
            self.action = action
        self.context: Mapping[str, object] = context
        super().__init__(f"{message} {self.action}" if self.action else message)
