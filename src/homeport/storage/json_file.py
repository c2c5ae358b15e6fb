"""One small JSON file as a keeper: written whole beside itself, then renamed into its place, so
that it is always the state before a commit or the one after it.

A person can read it: one item a line. Its name with ``-new`` is the file being written, and the one
with ``-lock`` is there while it is open.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import msgspec

from homeport.errors import (
    CannotOpen,
    Closed,
    Corrupted,
    FileTooNew,
    QuotaExceeded,
    ReadOnly,
    StorageError,
)
from homeport.storage.disk import Disk
from homeport.storage.file_lock import FileLock
from homeport.storage.places import usable_path

KIND: Final = "simple store"
VERSION: Final = 1
_FULL: Final = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_REFUSED: Final = {errno.EACCES, errno.EPERM, errno.EROFS}


class _Content(msgspec.Struct):
    homeport: str
    version: int
    items: dict[str, msgspec.Raw]


_head = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_content = msgspec.json.Decoder(_Content).decode
_encode = msgspec.json.Encoder().encode


class JsonFile:
    """``keeper.Keeper`` on a file that nobody else has open."""

    engine = "JSON file"

    def __init__(
        self,
        path: str,
        *,
        readonly: bool = False,
        durable: bool = True,
        busy_timeout_s: float = 5.0,
        disk: Disk | None = None,
    ) -> None:
        """durable: what was acknowledged survives a power cut. Raises ``Busy``, ``CannotOpen``,
        ``ReadOnly``."""
        self.path = usable_path(path, readonly=readonly)
        self._disk = Disk() if disk is None else disk
        self._durable = durable
        self._lines: dict[str, bytes] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._failed = ""
        self._lock = FileLock(f"{self.path}-lock")
        try:
            self._lock.take(busy_timeout_s, shared=readonly)
        except OSError as error:
            # Where no lock can be made nobody who may only read is in anybody's way.
            if not readonly or error.errno not in _REFUSED:
                raise self._typed(error) from error

    def load(self) -> dict[str, str]:
        try:
            self._stamp = self._disk.stamp(self.path)
            data = self._disk.read(self.path)
        except OSError as error:
            raise CannotOpen(f"{self.path} cannot be read: {error.strerror}.") from error
        items = {} if not data else self._items(data)
        self._lines = {name: _line(name, text) for name, text in items.items()}
        return items

    def _items(self, data: bytes) -> dict[str, str]:
        try:
            head = _head(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if data.startswith(b'{"homeport":"simple store"'):
                raise Corrupted(f"{self.path} is damaged: {error}.", path=self.path) from error
            raise self._foreign() from error
        if bytes(head.get("homeport", b"")) != _encode(KIND):
            raise self._foreign()
        try:
            version = msgspec.json.decode(head.get("version", b""), type=int)
            if version > VERSION:
                raise FileTooNew(f"{self.path} has version {version} of its form.", path=self.path)
            items = _content(data).items
            return {name: bytes(text).decode() for name, text in items.items()}
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Corrupted(f"{self.path} is damaged: {error}.", path=self.path) from error

    def _foreign(self) -> CannotOpen:
        return CannotOpen(
            f"{self.path} is no simple store of Homeport's; it was not touched.",
            action="Name another file, or leave storage='simple' out if it is an ordinary one.",
            path=self.path,
        )

    def write(self, changes: Mapping[str, str | None]) -> None:
        if self._failed or not self._lock.held:
            raise Closed(
                self._failed
                or f"{self.path} was opened by the process that this one was forked "
                "from, or is closed.",
                action="Open it again.",
            )
        lines = dict(self._lines)
        for name, text in changes.items():
            if text is None:
                lines.pop(name, None)
            else:
                lines[name] = _line(name, text)
        head = b'{"homeport":"simple store","version":1,"items":{\n'
        data = b"%b%b\n}}\n" % (head, b",\n".join(lines.values()))
        self._replace(data)
        self._lines = lines

    def _replace(self, data: bytes) -> None:
        disk, new = self._disk, f"{self.path}-new"
        try:
            if disk.stamp(self.path) != self._stamp:
                raise StorageError(
                    f"{self.path} was changed by another program while it was open here.",
                    action="Open it again to see that change, then repeat the write.",
                    path=self.path,
                )
            disk.write(new, data, self.path, sync=self._durable)
            stamp = disk.stamp(new)
        except OSError as error:
            with suppress(OSError):
                disk.remove(new)
            raise self._typed(error) from error
        self._failed = f"A write to {self.path} was interrupted; nobody knows whether it is there."
        try:
            disk.rename(new, self.path)
        except OSError as error:
            self._failed = ""
            with suppress(OSError):
                disk.remove(new)
            raise self._typed(error) from error
        self._stamp = stamp
        if self._durable:
            try:
                disk.sync_folder(os.path.dirname(self.path))  # noqa: PTH120 - a text
            except OSError as error:
                raise self._typed(error) from error
        self._failed = ""

    def _typed(self, error: OSError) -> StorageError:
        if error.errno in _FULL:
            return QuotaExceeded(f"There is no room left for {self.path}.", path=self.path)
        if error.errno in _REFUSED:
            return ReadOnly(f"{self.path} cannot be written: {error.strerror}.", path=self.path)
        return StorageError(f"{self.path} cannot be written: {error.strerror}.", path=self.path)

    def free_bytes(self) -> int | None:
        return self._disk.free_bytes(os.path.dirname(self.path))  # noqa: PTH120 - a text

    def close(self) -> None:
        self._lock.release()


def _line(name: str, text: str) -> bytes:
    return _encode(name) + b":" + text.encode()
