"""The steps by which a small file is replaced, one by one, so that tests can stop between them."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

# A folder that cannot be synced: some file systems have no such thing, Windows has no such call.
_UNSYNCABLE = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


class Disk:
    """Files of the operating system. Everything raises ``OSError``."""

    def read(self, path: str) -> bytes | None:
        """The whole file; None when there is none."""
        try:
            return Path(path).read_bytes()
        except FileNotFoundError:
            return None

    def stamp(self, path: str) -> tuple[int, int, int] | None:
        """What differs once another program has written the file; None when there is none."""
        try:
            found = os.stat(path)  # noqa: PTH116 - called for every commit
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def write(self, path: str, data: bytes, like: str, *, sync: bool) -> None:
        """Write a file anew, with the permissions of ``like`` if that is there."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
        mode = None
        with suppress(FileNotFoundError):
            mode = Path(like).stat().st_mode & 0o7777
        file = os.open(path, flags, 0o666 if mode is None else mode & 0o700)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(file, left) :]
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(file, mode)
            if sync:
                os.fsync(file)
        finally:
            os.close(file)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)  # noqa: PTH105 - texts

    def sync_folder(self, path: str) -> None:
        """Make a rename in a folder durable, where that can be asked for."""
        if sys.platform == "win32":
            return
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        except OSError as error:
            if error.errno not in _UNSYNCABLE:
                raise
        finally:
            os.close(folder)

    def remove(self, path: str) -> None:
        """Silent when there is none."""
        Path(path).unlink(missing_ok=True)

    def free_bytes(self, folder: str) -> int | None:
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            return None
