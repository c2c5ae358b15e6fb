"""The file or its medium."""

from __future__ import annotations

from homeport.errors.base import HomeportError


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


class StorageRefused(CannotOpen):
    """The browser gives this page no access to its storage."""

    code = "storage-refused"
    action = "Allow the site to store data (private windows and settings may forbid it)."


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


class KeyRequired(StorageError):
    """The file is encrypted, and no key was given; nothing was changed."""

    code = "key-required"
    action = "Open it with key=..."


class WrongKey(StorageError):
    """The key does not fit the file, or the file is not encrypted; nothing was changed."""

    code = "wrong-key"
    action = "Use the key that the file was made with; without it nobody can read the file."


class SealBroken(StorageError):
    """A sealed document or value does not open: it was changed, or taken from another place.

    ``context`` names its collection and key.
    """

    code = "seal-broken"
    action = "Restore it from the server or a backup: what is stored was changed."
