"""Errors of SQLite in the words of Homeport."""

from __future__ import annotations

import errno

import apsw
import msgspec

from homeport.errors import (
    Busy,
    CannotOpen,
    Closed,
    Corrupted,
    HomeportError,
    Interrupted,
    InvalidDocument,
    QuotaExceeded,
    ReadOnly,
    SchemaMismatch,
    StorageError,
)

_CORRUPT_FS = getattr(apsw, "SQLITE_IOERR_CORRUPTFS", -1)


FAULTS = (apsw.Error, UnicodeDecodeError, msgspec.DecodeError)
"""What reading and writing a file may raise: of SQLite, or because a stored text is damaged."""

# SQLite itself calls only ENOSPC a full disk; a quota and a limit on the size of files are one too.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def translate(error: Exception, path: str, system_errno: int = 0) -> HomeportError:
    """The typed error of a failed statement; the caller raises it ``from`` the original.

    system_errno: what the operating system answered, as the connection knows it; 0 if unknown.
    """
    detail = str(error).rstrip(".")
    if not isinstance(error, apsw.Error) or "malformed JSON" in detail:
        return Corrupted(f"{path} is damaged: a stored text is unreadable ({detail}).", path=path)
    if isinstance(error, (apsw.BusyError, apsw.LockedError, apsw.ProtocolError)):
        return Busy(
            f"Another process, or another open database of this one, is writing to {path} and did "
            "not finish in time.",
            path=path,
        )
    if isinstance(error, apsw.InterruptError):
        return Interrupted("The operation was cancelled.")
    failed_io = isinstance(error, (apsw.IOError, apsw.CantOpenError))
    if isinstance(error, apsw.FullError) or (failed_io and system_errno in _NO_ROOM):
        return QuotaExceeded(f"There is no room left to write {path}.", path=path)
    if isinstance(error, apsw.ReadOnlyError):
        return ReadOnly(f"{path} cannot be written: {detail}.", path=path)
    if isinstance(error, (apsw.CantOpenError, apsw.PermissionsError, apsw.AuthError)):
        return CannotOpen(f"{path} cannot be opened: {detail}.", path=path)
    if isinstance(error, apsw.NotADBError):
        return Corrupted(f"{path} is not a database, or it is encrypted.", path=path)
    if isinstance(error, apsw.CorruptError) or _is_io_corruption(error):
        return Corrupted(f"{path} is damaged: {detail}.", path=path)
    if isinstance(error, apsw.TooBigError):
        return InvalidDocument("A document is larger than SQLite can store (1 GB).")
    if isinstance(error, (apsw.ConnectionClosedError, apsw.CursorClosedError)):
        return Closed("The database is closed.")
    if "no such table: meta" in detail:
        return Corrupted(
            f"{path} was deleted or replaced while it was open: what is read there is not what "
            "was opened.",
            action="Close this database and open it again; replace a file while it is closed.",
            path=path,
        )
    if other_schema(error):
        return SchemaMismatch(
            f"Another process has changed the indexes of {path} ({detail}).",
            action="Use one declaration in all processes, then open the file again.",
            path=path,
        )
    if isinstance(error, apsw.IOError):
        return StorageError(f"The disk failed under {path}: {detail}.", path=path)
    return StorageError(f"SQLite refused a statement on {path}: {detail}.", path=path)


def _is_io_corruption(error: apsw.Error) -> bool:
    return getattr(error, "extendedresult", 0) == _CORRUPT_FS


def other_schema(error: Exception) -> bool:
    """Does a statement name what the file does not have?"""
    return isinstance(error, (apsw.SQLError, apsw.SchemaChangeError)) and any(
        words in str(error) for words in ("no such column", "no such table", "has no column")
    )
