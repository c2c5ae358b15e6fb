"""Files of a shared folder without a disk: each device sees its own copy, and a carrier moves
files between them late, in any order, twice under other names, or half."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import msgspec

from homeport.errors import HistoryBroken, IdentityBroken, Unreachable
from homeport.transport.backend import BackendTransport
from homeport.transport.logs import LogBackend

from .device import Device
from .model import Problem


def step(work: Coroutine[Any, Any, Any]) -> Any:
    """Run what never really waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for something")


class Files:
    """One device's copy of the folder."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.fail_in: int | None = None
        """Raise (as a full disk or a lost share would) at the nth operation from now."""

    def _tick(self) -> None:
        if self.fail_in is not None:
            self.fail_in -= 1
            if self.fail_in < 0:
                self.fail_in = None
                raise OSError("the share is gone")

    async def names(self) -> list[str]:
        self._tick()
        return list(self.files)

    async def read(self, name: str) -> bytes | None:
        self._tick()
        return self.files.get(name)

    async def create(self, name: str, data: bytes) -> bool:
        self._tick()
        if name in self.files:
            return False
        self.files[name] = data
        self._tick()  # written, and the answer lost
        return True


class Folder:
    """What ``Device`` calls its server: one device's way to its copy of the folder."""

    def __init__(self, files: Files | None = None) -> None:
        self.files = files or Files()
        self.restart()

    def restart(self) -> None:
        """The program was killed: only the files are left."""
        self.backend = self.make()
        self.net = BackendTransport(self.backend)

    def make(self) -> LogBackend:
        return LogBackend(self.files)

    def sync(self, body: bytes, user: str = "u") -> bytes:
        try:
            return msgspec.json.encode(self.run(self.net.exchange(body, "")))
        except HistoryBroken as error:
            raise Problem(410, error.code) from error
        except IdentityBroken as error:
            raise Problem(409, error.code) from error

    def run(self, work: Any) -> Any:
        return step(work)

    def docs(self, collection: str = "wells") -> dict[str, Any]:
        """What the files of this copy say."""
        pulled = self.run(self.backend.pull_changes(None, [collection], []))
        return {c.key: c.document for c in pulled.changes}


class Carrier:
    """Moves files between copies."""

    def __init__(self, folders: list[Folder]) -> None:
        self.folders = folders

    def missing(self, to: int) -> list[tuple[str, bytes]]:
        here = self.folders[to].files.files
        found: dict[str, bytes] = {}
        for folder in self.folders:
            for name, data in folder.files.files.items():
                whole = data.endswith(b"}") and " (copy)" not in name
                if here.get(name) != data and whole and (name not in here or len(here[name]) < len(data)):
                    if name not in found or len(found[name]) < len(data):
                        found[name] = data
        return sorted(found.items())

    def carry(self, to: int, choice: int, how: str) -> None:
        """One file: whole, its first half, or whole under a second name."""
        waiting = self.missing(to)
        if not waiting:
            return
        name, data = waiting[choice % len(waiting)]
        files = self.folders[to].files.files
        if how == "half":
            files.setdefault(name, data[: len(data) // 2])
        elif how == "copy":
            files[name.removesuffix(".json") + " (copy).json"] = data
        else:
            files[name] = data

    def all(self) -> None:
        """In the end everything arrives."""
        for to in range(len(self.folders)):
            while waiting := self.missing(to):
                for name, data in waiting:
                    self.folders[to].files.files[name] = data


def device(folder: Folder, name: str, *collections: Any, **options: Any) -> Device:
    return Device(folder, *collections, name=name, **options)  # type: ignore[arg-type]


def settle(devices: list[Device], carrier: Carrier) -> None:
    for _ in range(4):
        carrier.all()
        for one in devices:
            for _ in range(60):
                try:
                    one.sync()
                    break
                except Unreachable:
                    carrier.all()
    carrier.all()
    for one in devices:
        one.sync()
