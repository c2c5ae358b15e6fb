"""Every error that Homeport raises, in one tree.

    HomeportError
    ├── UsageError              the call is wrong; nothing was touched
    │   ├── InvalidDocument     a value that no JSON document can hold
    │   ├── InvalidKey          a document key or index value outside the key types
    │   ├── InvalidQuery        a condition, order or filter that cannot be built
    │   │   └── UnknownField    the model has no such field
    │   ├── UnknownCollection   the database was opened without it
    │   ├── SchemaError         a declaration that contradicts itself
    │   ├── TransactionError    a rule of transactions and units was broken
    │   └── Closed              the database is closed
    ├── DataError               the data says no; nothing was written
    │   ├── NotFound
    │   ├── NotUnique           one() met several
    │   ├── KeyExists           add() met an existing key
    │   ├── UniqueViolation     a unique index holds the value already
    │   ├── ValidationFailed    the document does not satisfy its schema
    │   └── BulkError           some rows of a bulk call failed, listed by position
    ├── StorageError            the file or its medium
    │   ├── Busy                another process kept the write lock for too long
    │   ├── Interrupted         a running statement was cancelled
    │   ├── ReadOnly
    │   ├── CannotOpen
    │   ├── Corrupted
    │   ├── SchemaMismatch      the file was made by another declaration
    │   ├── FileTooNew
    │   └── QuotaExceeded       disk full or quota reached
    ├── SyncError               replication
    │   ├── Unreachable         no network, no server, no answer in time
    │   ├── NeedsAuth           the token is missing, wrong or expired
    │   ├── Forbidden           the token is good, the action is not allowed
    │   ├── WrongUser           the file belongs to another user
    │   ├── UnknownRemoteCollection
    │   ├── HistoryBroken       the server's history broke; the device resets itself
    │   ├── IdentityBroken      this file was copied or restored
    │   ├── ProtocolMismatch
    │   ├── ServerRefused       the server refused the request as a whole
    │   ├── UnitTooLarge        a unit that could never be sent
    │   └── QueueFull           the outbox reached its limit
    └── ServerError             running a node
        ├── DatabaseUnavailable
        ├── MissingDependency
        └── LaunchFailed

Each class has a stable ``code``; a retired code is never used again. ``str(error)`` says what
happened and what to do; ``error.action`` is the second half alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


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


class Closed(UsageError):
    """The database is closed."""

    code = "closed"
    action = "Open it again."


class DataError(HomeportError):
    """The data says no; nothing was written."""

    code = "data"
    action = "Look at the data."


class NotFound(DataError):
    """No document has this key, or no row matches."""

    code = "not-found"
    action = "Check the key, or pass a default."


class NotUnique(DataError):
    """one() met several documents."""

    code = "not-unique"
    action = "Narrow the query, or use first() or all()."


class KeyExists(DataError):
    """add() met an existing key."""

    code = "key-exists"
    action = "Use put() to replace it, or patch() to change some fields."


class UniqueViolation(DataError):
    """Another document has this value in a unique index."""

    code = "unique"
    action = "Choose another value, or change the other document first."


class ValidationFailed(DataError):
    """The document does not satisfy the collection's schema or model."""

    code = "validation"
    action = "Correct the document at the named path."


class BulkError(DataError):
    """Some rows of a bulk call failed; all the others were written.

    Attributes:
        failures: position in the caller's list → the error of that row.
        keys: the key of each row that was written, None where it failed.
    """

    code = "bulk"
    action = "See .failures for the error of each position."

    def __init__(
        self, message: str, *, failures: Mapping[int, HomeportError], keys: Sequence[object]
    ) -> None:
        super().__init__(message)
        self.failures = dict(failures)
        self.keys = list(keys)


class StorageError(HomeportError):
    """The file or its medium."""

    code = "storage"
    action = "Check the file and its disk; nothing of the failed call was written."


class Busy(StorageError):
    """Another process or thread kept the write lock for longer than the time limit."""

    code = "busy"
    action = "Try again, keep transactions short, or raise busy_timeout_s."


class Interrupted(StorageError):
    """The running statement was cancelled; its transaction is rolled back."""

    code = "interrupted"
    action = "Nothing to do if you cancelled it; otherwise repeat the call."


class ReadOnly(StorageError):
    """The file or its folder cannot be written."""

    code = "read-only"
    action = "Give this user write access to the file and its folder, or open with readonly=True."


class CannotOpen(StorageError):
    """The file cannot be opened."""

    code = "cannot-open"
    action = "Check that the folder exists and may be entered by this user."


class Corrupted(StorageError):
    """The file is not a database, or is damaged."""

    code = "corrupted"
    action = "Keep a copy of the file, restore a backup; `homeport inspect` shows what is readable."


class SchemaMismatch(StorageError):
    """The file was made by a declaration that this one cannot follow."""

    code = "schema-mismatch"
    action = "Open it with the declaration it was made with, or copy the documents to a new one."


class FileTooNew(StorageError):
    """The file was written by a newer version of Homeport."""

    code = "file-too-new"
    action = "Upgrade homeport; the file was not touched."


class QuotaExceeded(StorageError):
    """The disk is full or the quota is reached; the write was not acknowledged."""

    code = "quota"
    action = "Free space and repeat the write; everything acknowledged before is safe."


class SyncError(HomeportError):
    """Replication; the outbox is kept whatever happens."""

    code = "sync"
    action = "See sync.status(); queued writes are kept."


class Unreachable(SyncError):
    """No network, no server, or no answer in time."""

    code = "unreachable"
    action = "Nothing to do: it is retried by itself and queued writes are kept."


class NeedsAuth(SyncError):
    """The token is missing, wrong or expired."""

    code = "needs-auth"
    action = "Give a fresh token (token= may be a callable); queued writes are kept."


class Forbidden(SyncError):
    """The token is good, but this action is not allowed."""

    code = "forbidden"
    action = "Ask the owner of the server for access."


class WrongUser(SyncError):
    """The file belongs to another server, tenant or user; nothing was sent."""

    code = "wrong-user"
    action = "Open another file for this user."


class UnknownRemoteCollection(SyncError):
    """The server does not know a collection; its writes stay queued."""

    code = "unknown-remote-collection"
    action = "Declare the collection on the server, or give it sync=False on the device."


class HistoryBroken(SyncError):
    """The server lost (crash, failover, restore) or pruned history that this device had seen."""

    code = "history-broken"
    action = "Nothing to do: the device fetches everything again and keeps its queued writes."


class IdentityBroken(SyncError):
    """Another copy of this file has synced under the same identity."""

    code = "identity-broken"
    action = "Nothing to do: this file takes a new identity and merges its queued writes."


class ProtocolMismatch(SyncError):
    """Device and server speak different versions of the protocol."""

    code = "protocol-mismatch"
    action = "Upgrade the older side; queued writes are kept."


class ServerRefused(SyncError):
    """The server refused the request as a whole."""

    code = "server-refused"
    action = "See the message; queued writes are kept."


class UnitTooLarge(SyncError):
    """A unit (explicit transaction) that could never be sent; nothing of it was written."""

    code = "unit-too-large"
    action = "Split it, or use put_many, whose rows are units of one."


class QueueFull(SyncError):
    """The outbox reached its limit; this write was not made."""

    code = "queue-full"
    action = "Let the queue drain (sync.status() says why it does not), or raise max_queue."


class ServerError(HomeportError):
    """Running a node."""

    code = "server"
    action = "See the log of the node."


class DatabaseUnavailable(ServerError):
    """PostgreSQL does not answer."""

    code = "database-unavailable"
    action = "Check that PostgreSQL runs and that the connection string is right."


class MissingDependency(ServerError):
    """An optional package is not installed."""

    code = "missing-dependency"
    action = "Install the extra that the message names."


class LaunchFailed(ServerError):
    """A program that Homeport starts (PostgreSQL, a node) did not come up."""

    code = "launch-failed"
    action = "See the log that the message names."
