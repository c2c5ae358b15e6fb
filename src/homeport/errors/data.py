"""The data says no; nothing was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from homeport.errors.base import HomeportError


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


class KeysExhausted(DataError):
    """A key generator has reached 2**53, behind which numbers are not exact any more."""

    code = "keys-exhausted"
    action = "Give the keys yourself, or use key_generator='uuid7'."


class UniqueViolation(DataError):
    """Another document has this value in a unique index."""

    code = "unique"
    action = "Choose another value, or change the other document first."


class DuplicateValues(DataError):
    """A new unique index met documents that have the same value; they stay as they are.

    Attributes:
        duplicates: (value, keys of the documents) for each value, at most a hundred.
    """

    code = "duplicate-values"
    action = (
        "Change or delete the documents that .duplicates names, with the index declared without "
        "unique; then declare it unique again."
    )

    def __init__(
        self,
        message: str,
        *,
        collection: str,
        index: str,
        duplicates: Sequence[tuple[object, Sequence[object]]],
    ) -> None:
        super().__init__(message, collection=collection, index=index)
        self.duplicates = [(value, list(keys)) for value, keys in duplicates]


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


class LoadFailed(DataError):
    """A bulk load stopped at a document; the whole chunks before it are stored.

    Attributes:
        position: of the document in the source, from 0; of a file its line, from 1.
        loaded: so many documents of the source are dealt with: continue behind them.
    """

    code = "load"
    action = "Correct the document and continue behind .loaded."

    def __init__(
        self, message: str, *, action: str | None = None, position: int, loaded: int
    ) -> None:
        super().__init__(message, action=action, position=position, loaded=loaded)
        self.position = position
        self.loaded = loaded


class FormatError(DataError):
    """A file that is to be imported is not what its format says.

    Attributes:
        path: of the file.
        line: where it is wrong, from 1; of a Parquet file the row; 0 when nobody can say.
    """

    code = "format"
    action = "Correct the file at the named line."

    def __init__(self, message: str, *, action: str | None = None, path: str, line: int) -> None:
        super().__init__(message, action=action, path=path, line=line)
        self.path = path
        self.line = line
