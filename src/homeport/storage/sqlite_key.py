"""Encrypted files: the key, how a connection gets it, and how a file gets another.

SQLite3 Multiple Ciphers encrypts every page of the file and of the log beside it with ChaCha20 and
signs it with Poly1305. It is given a ready key of 256 bits (``secret``). The salt is where the
cipher keeps it, in the first 16 bytes of the file, which are otherwise SQLite's greeting.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import apsw

from homeport.errors import Busy, CannotOpen, KeyRequired, WrongKey
from homeport.storage.secret import Secret
from homeport.storage.sqlite_errors import FAULTS, translate

if TYPE_CHECKING:
    from collections.abc import Callable

MAGIC: Final = b"SQLite format 3\x00"
SALT_BYTES: Final = 16
PAGE_BYTES: Final = 4096
HEAD_BYTES: Final = 256
CIPHER: Final = "chacha20"


def head_of(path: str, at: int = 0) -> bytes:
    """The first bytes of the file, or those from a position; empty when there is none."""
    try:
        with Path(path).open("rb") as file:
            file.seek(at)
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def looks_encrypted(path: str) -> bool:
    """Is it no plain SQLite file, but whole pages, as random as encrypted ones?"""
    head = head_of(path)
    if len(head) < HEAD_BYTES or head.startswith(MAGIC):
        return False
    pages, rest = divmod(Path(path).stat().st_size, PAGE_BYTES)
    # A plain file whose beginning is damaged is no encrypted one: every page has to look like it.
    looked_at = {0, pages // 3, pages // 2, max(0, pages - 1)}
    return not rest and all(_random(head_of(path, page * PAGE_BYTES)) for page in looked_at)


def _random(part: bytes) -> bool:
    return sum(byte >= 128 for byte in part) > HEAD_BYTES // 3


def unlock(connection: apsw.Connection, path: str, secret: Secret) -> bytes:
    """Give a fresh connection its key → the salt. Raises ``WrongKey`` for a file without one."""
    head = head_of(path)
    if head.startswith(MAGIC):
        raise WrongKey(
            f"{path} is not encrypted, and a key was given.",
            action="Open it without a key, or encrypt it with hp.rekey(path, None, key).",
            path=path,
        )
    salt = head[:SALT_BYTES] if len(head) >= SALT_BYTES else os.urandom(SALT_BYTES)
    _give(connection, "key", secret.pragma(salt))
    return salt


def moved(path: str, salt: bytes) -> bool:
    """Did another process make, or encrypt anew, the file since?"""
    head = head_of(path)
    return len(head) >= SALT_BYTES and head[:SALT_BYTES] != salt


def refused(path: str, secret: Secret | None) -> WrongKey | KeyRequired | None:
    """What it means that a file is no database, where that has to do with keys."""
    if secret is not None:
        return WrongKey(
            f"The key does not open {path}; or the beginning of the file is damaged.",
            path=path,
        )
    if looks_encrypted(path):
        return KeyRequired(f"{path} is encrypted.", path=path)
    return None


def _give(connection: apsw.Connection, name: str, value: str) -> None:
    try:
        connection.execute(f"PRAGMA cipher='{CIPHER}'", can_cache=False).fetchall()
        connection.execute(f"PRAGMA {name}='{value}'", can_cache=False).fetchall()
    except apsw.Error as error:
        # Without the statement, which holds the key.
        raise CannotOpen(f"The key could not be set: {type(error).__name__}.") from None


def _end_log(execute: Callable[..., apsw.Cursor]) -> None:
    if execute("PRAGMA journal_mode=delete").get != "delete":
        raise apsw.BusyError("in use")


def rekey(path: str, old: Secret | None, new: Secret | None) -> None:
    """Write every page anew under another key, in one transaction of a file that nobody has open.

    A crash leaves the file under the one key or the other. Raises ``Busy`` when it is open
    anywhere, ``WrongKey``, ``KeyRequired``, ``CannotOpen``.
    """
    if not Path(path).is_file():
        raise CannotOpen(f"There is no file {path}.", action="Check the path.", path=path)
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        salt = unlock(connection, path, old) if old is not None else b""
        connection.set_busy_timeout(1_000)
        execute: Callable[..., apsw.Cursor] = connection.execute
        execute("PRAGMA locking_mode=exclusive").fetchall()
        execute("SELECT count(*) FROM sqlite_schema").fetchall()
        # The log may hold pages under the old key, so there must be none.
        _end_log(execute)
        execute("PRAGMA synchronous=full").fetchall()
        if new is None:
            _give(connection, "rekey", "")
        else:
            _give(connection, "rekey", new.pragma(salt or os.urandom(SALT_BYTES)))
        execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except apsw.BusyError as error:
        raise Busy(
            f"{path} is open, here or in another process.",
            action="Close it everywhere, then change its key.",
            path=path,
        ) from error
    except apsw.NotADBError as error:
        raise refused(path, old) or translate(error, path) from error
    except FAULTS as error:
        raise translate(error, path) from error
    finally:
        connection.close()
