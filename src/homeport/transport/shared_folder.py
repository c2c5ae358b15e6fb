"""A folder that several devices see: a network share, or one that a program keeps in step.

    FOLDER/homeport.json                            marks the folder
    FOLDER/changes/CLIENT/0000000001-HASH.json      one batch, written once

A file is written under a temporary name, flushed, and given its name by a hard link, which fails
when there is one already; where the file system has no links, by a rename after a look. Every
device writes into folders of its own alone, so no locks are needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from homeport.errors import CannotOpen, Unreachable
from homeport.transport.logs import LogBackend, decode_commit

MARK: Final = "homeport.json"
_NO_LINKS: Final = frozenset(
    code
    for name in ("EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EACCES", "EINVAL", "EMLINK")
    if (code := getattr(errno, name, None)) is not None
)


class FolderFiles:
    """The ``FileStore`` of a directory. Every call works in a thread of its own."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    async def names(self) -> Iterable[str]:
        return await asyncio.to_thread(self.list)

    async def read(self, name: str) -> bytes | None:
        return await asyncio.to_thread(self.load, name)

    async def create(self, name: str, data: bytes) -> bool:
        return await asyncio.to_thread(self.write, name, data)

    def list(self) -> list[str]:
        try:
            if not (self.path / MARK).is_file():
                raise Unreachable(
                    f"{self.path} is no shared folder of Homeport (it has no {MARK}).",
                    action="Is it mounted? A new one is made by SharedFolder(path, create=True).",
                )
            found: list[str] = []
            for folder in os.scandir(self.path / "changes"):
                if folder.is_dir():
                    found.extend(self.of_client(folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Unreachable(f"{self.path} cannot be read: {error}.") from error
        return found

    def of_client(self, folder: os.DirEntry[str]) -> Iterable[str]:
        """Its files; none where the folder went away meanwhile, which says nothing of others."""
        with contextlib.suppress(FileNotFoundError):
            return [
                f"{folder.name}/{file.name}"
                for file in os.scandir(folder.path)
                if file.name.endswith(".json") and not file.name.startswith(".")
            ]
        return []

    def load(self, name: str) -> bytes | None:
        try:
            return (self.path / "changes" / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unreachable(f"{name} cannot be read: {error}.") from error

    def write(self, name: str, data: bytes) -> bool:
        target = self.path / "changes" / name
        part = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.part")
        try:
            self.make_folder(target.parent)
            try:
                self.write_part(part, data)
                return self.publish(part, target)
            finally:
                with contextlib.suppress(OSError):
                    part.unlink(missing_ok=True)
        except OSError as error:
            raise Unreachable(f"{target} cannot be written: {error}.") from error

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.part"):
            # Of a program that was killed while it wrote. It holds nothing that was promised.
            with contextlib.suppress(OSError):
                left.unlink()

    def write_part(self, part: Path, data: bytes) -> None:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def publish(self, part: Path, target: Path) -> bool:
        """Give the file its name, unless there is a whole one already."""
        try:
            os.link(part, target)
        except FileExistsError:
            if decode_commit(target.read_bytes()) is not None:
                return False
            part.replace(target)  # the same batch, half: the file system lost its end
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if target.exists():
                return False
            part.rename(target)
        _flush_folder(target.parent)
        return True


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


class SharedFolder(LogBackend):
    """Replication through a folder of files, without a server: ``db.sync(SharedFolder(path))``.

    Args:
        path: the folder, as this device sees it.
        create: make the folder if it is new. Say it once, when a folder is set up: a program that
            always says it takes the empty mount point of a share for a new folder.
        poll_s: while replication runs, the folder is looked at so often.

    Raises:
        CannotOpen: ``create``, and the folder cannot be made, or holds other things.
    """

    def __init__(self, path: str | Path, *, create: bool = False, poll_s: float = 1.0) -> None:
        super().__init__(FolderFiles(path), poll_s=poll_s)
        self.path = Path(path)
        if create:
            _make(self.path)

    def __repr__(self) -> str:
        return f"<SharedFolder {str(self.path)!r}>"


def _make(path: Path) -> None:
    mark = path / MARK
    try:
        path.mkdir(parents=True, exist_ok=True)
        if mark.exists():
            return
        if any(path.iterdir()):
            raise CannotOpen(
                f"{path} holds other files.", action="Give a folder of its own.", path=str(path)
            )
        (path / "changes").mkdir(exist_ok=True)
        with mark.open("w", encoding="utf-8") as file:
            file.write('{"homeport": "shared folder", "format": 1}\n')
            file.flush()
            os.fsync(file.fileno())
        _flush_folder(path)
    except OSError as error:
        raise CannotOpen(f"{path} cannot be made: {error}.", path=str(path)) from error
