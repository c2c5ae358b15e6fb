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
    │   ├── NotCopyable         what belongs to an open database was copied or pickled
    │   └── Closed              the database is closed
    ├── DataError               the data says no; nothing was written
    │   ├── NotFound
    │   ├── NotUnique           one() met several
    │   ├── KeyExists           add() met an existing key
    │   ├── KeysExhausted       a key generator has come to its end
    │   ├── UniqueViolation     a unique index holds the value already
    │   ├── DuplicateValues     a new unique index met documents with the same value
    │   ├── ValidationFailed    the document does not satisfy its schema
    │   ├── BulkError           some rows of a bulk call failed, listed by position
    │   ├── LoadFailed          a bulk load stopped at a document
    │   └── FormatError         a file to be imported is not what its format says
    ├── StorageError            the file or its medium
    │   ├── Busy                another process kept the write lock for too long
    │   ├── Interrupted         a running statement was cancelled
    │   ├── ReadOnly
    │   ├── CannotOpen
    │   │   └── StorageRefused  the browser gives no access to its storage
    │   ├── Corrupted
    │   ├── SchemaMismatch      the file was made by another declaration
    │   ├── FileTooNew
    │   ├── QuotaExceeded       disk full or quota reached
    │   ├── KeyRequired         it is encrypted, and no key was given
    │   ├── WrongKey            the key does not fit
    │   └── SealBroken          a sealed document was changed or moved
    ├── SyncError               replication
    │   ├── CannotSync          a simple store has no queue for a server
    │   ├── Unreachable         no network, no server, no answer in time
    │   │   └── RateLimited     the server takes no more for a moment
    │   ├── NeedsAuth           the token is missing, wrong or expired
    │   ├── Forbidden           the token is good, the action is not allowed
    │   ├── WrongUser           the file belongs to another user
    │   ├── UnknownRemoteCollection
    │   ├── HistoryBroken       the server's history broke; the device resets itself
    │   ├── IdentityBroken      this file was copied or restored
    │   ├── ProtocolMismatch
    │   ├── UpgradeRequired     the server asks for a newer version of this program
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

from homeport.errors.base import (
    HomeportError,
    LongTransactionWarning,
    RiskyPlaceWarning,
    StorageFallbackWarning,
)
from homeport.errors.data import (
    BulkError,
    DataError,
    DuplicateValues,
    FormatError,
    KeyExists,
    KeysExhausted,
    LoadFailed,
    NotFound,
    NotUnique,
    UniqueViolation,
    ValidationFailed,
)
from homeport.errors.replication import (
    CannotSync,
    Forbidden,
    HistoryBroken,
    IdentityBroken,
    NeedsAuth,
    ProtocolMismatch,
    QueueFull,
    RateLimited,
    RolledBack,
    ServerRefused,
    SyncError,
    UnitTooLarge,
    UnknownRemoteCollection,
    Unreachable,
    UpgradeRequired,
    WrongUser,
)
from homeport.errors.running import (
    DatabaseUnavailable,
    LaunchFailed,
    MissingDependency,
    ServerError,
)
from homeport.errors.storage import (
    Busy,
    CannotOpen,
    Corrupted,
    FileTooNew,
    Interrupted,
    KeyRequired,
    QuotaExceeded,
    ReadOnly,
    SchemaMismatch,
    SealBroken,
    StorageError,
    StorageRefused,
    WrongKey,
)
from homeport.errors.usage import (
    Closed,
    InvalidDocument,
    InvalidKey,
    InvalidQuery,
    NotCopyable,
    SchemaError,
    TransactionError,
    UnknownCollection,
    UnknownField,
    UsageError,
)

__all__ = [
    "BulkError",
    "Busy",
    "CannotOpen",
    "CannotSync",
    "Closed",
    "Corrupted",
    "DataError",
    "DatabaseUnavailable",
    "DuplicateValues",
    "FileTooNew",
    "Forbidden",
    "FormatError",
    "HistoryBroken",
    "HomeportError",
    "IdentityBroken",
    "Interrupted",
    "InvalidDocument",
    "InvalidKey",
    "InvalidQuery",
    "KeyExists",
    "KeyRequired",
    "KeysExhausted",
    "LaunchFailed",
    "LoadFailed",
    "LongTransactionWarning",
    "MissingDependency",
    "NeedsAuth",
    "NotCopyable",
    "NotFound",
    "NotUnique",
    "ProtocolMismatch",
    "QueueFull",
    "QuotaExceeded",
    "RateLimited",
    "ReadOnly",
    "RiskyPlaceWarning",
    "RolledBack",
    "SchemaError",
    "SchemaMismatch",
    "SealBroken",
    "ServerError",
    "ServerRefused",
    "StorageError",
    "StorageFallbackWarning",
    "StorageRefused",
    "SyncError",
    "TransactionError",
    "UniqueViolation",
    "UnitTooLarge",
    "UnknownCollection",
    "UnknownField",
    "UnknownRemoteCollection",
    "Unreachable",
    "UpgradeRequired",
    "UsageError",
    "ValidationFailed",
    "WrongKey",
    "WrongUser",
]
