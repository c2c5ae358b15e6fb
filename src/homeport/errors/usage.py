"""The call is wrong; nothing was touched."""

from __future__ import annotations

from homeport.errors.base import HomeportError


class UsageError(HomeportError):
    """The call is wrong; nothing was touched."""

    code = "usage"
    action = "Correct the call."


class InvalidDocument(UsageError):
    """A value that no document can hold (NaN, an int beyond 2**53, NUL, a lone surrogate, ...)."""

    code = "invalid-document"
    action = "Change the value, or declare a model that gives it a JSON form."


class InvalidKey(UsageError):
    """A document key or an index value outside the key types."""

    code = "invalid-key"
    action = "Use a finite number, a string, or a list of these as key."


class InvalidQuery(UsageError):
    """A condition, order or filter document that cannot be built."""

    code = "invalid-query"
    action = "Correct the query; nothing was read."


class UnknownField(InvalidQuery):
    """The model has no such field."""

    code = "unknown-field"
    action = "Use a field of the model."


class UnknownCollection(UsageError):
    """The database was opened without this collection."""

    code = "unknown-collection"
    action = "Pass it in open(collections=[...])."


class SchemaError(UsageError):
    """A declaration that contradicts itself."""

    code = "schema"
    action = "Correct the declaration of the collection."


class TransactionError(UsageError):
    """A rule of transactions and units was broken; the transaction is rolled back."""

    code = "transaction"
    action = "See the guide on transactions."


class NotCopyable(UsageError, TypeError):
    """What belongs to an open database was copied or pickled, perhaps for another process."""

    code = "not-copyable"
    action = "Give the path to the other process and open it again there; documents can be copied."


class Closed(UsageError):
    """The database is closed."""

    code = "closed"
    action = "Open it again."
