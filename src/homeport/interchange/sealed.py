"""Sealed files: an export that only its key opens.

The file is one line of JSON (``{"homeport": "sealed", "ring": {...}}``), then parts: four bytes
with the length of a box, big-endian, and the box. Each part is bound to its number and whether it
is the last, so a file that was cut off, or put together from others, does not open (the STREAM
construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015).
"""

from __future__ import annotations

import io
from struct import Struct
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

import msgspec

from homeport.core.sealing import OVERHEAD_BYTES, Place, Ring
from homeport.errors import Corrupted, KeyRequired, SealBroken, WrongKey

if TYPE_CHECKING:
    from collections.abc import Iterator

PART_BYTES: Final = 64 * 1024
START: Final = b'{"homeport":"sealed",'
MOST_HEAD_BYTES: Final = 64 * 1024

_LENGTH: Final = Struct(">I")


class Sealer(Protocol):
    """What seals and opens: ``storage.vault.Vault``."""

    @property
    def ring(self) -> Ring: ...

    def seal(self, place: Place, data: bytes) -> bytes: ...

    def open(self, place: Place, data: bytes) -> bytes: ...


class _Head(msgspec.Struct):
    homeport: str
    ring: msgspec.Raw


class SealedWriter(io.RawIOBase):
    """A file that seals what is written into it; ``close`` writes the last part and leaves the file
    below open."""

    def __init__(self, file: IO[bytes], vault: Sealer) -> None:
        super().__init__()
        self._file = file
        self._vault = vault
        self._waiting = bytearray()
        self._number = 0
        file.write(START + b'"ring":' + vault.ring.text.encode() + b"}\n")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._waiting += data
        while len(self._waiting) > PART_BYTES:
            self._part(Place("part", key=self._number), bytes(self._waiting[:PART_BYTES]))
            del self._waiting[:PART_BYTES]
        return len(data)

    def _part(self, place: Place, data: bytes) -> None:
        box = self._vault.seal(place, data)
        self._file.write(_LENGTH.pack(len(box)) + box)
        self._number += 1

    def finish(self) -> None:
        """Everything is written."""
        self._part(Place("end", key=self._number), bytes(self._waiting))
        self._waiting.clear()


def is_sealed(first: bytes) -> bool:
    """Do these first bytes begin a sealed file?"""
    return first.startswith(START)


def read_head(file: IO[bytes], name: str) -> Ring:
    """The ring of a sealed file. Raises ``WrongKey`` for one that is none, ``Corrupted``."""
    line = file.readline(MOST_HEAD_BYTES)
    if not is_sealed(line):
        raise WrongKey(
            f"{name} is not sealed, and a key was given.",
            action="Read it without a key.",
            path=name,
        )
    try:
        head = msgspec.json.decode(line, type=_Head)
    except msgspec.DecodeError as error:
        raise Corrupted(f"The head of {name} is damaged: {error}.", path=name) from error
    return Ring.read(bytes(head.ring), name)


def read_parts(file: IO[bytes], vault: Sealer, name: str) -> Iterator[bytes]:
    """The contents, part by part; raises ``SealBroken`` before anything of a broken part."""
    number = 0
    while True:
        found = file.read(_LENGTH.size)
        size = _LENGTH.unpack(found)[0] if len(found) == _LENGTH.size else 0
        box = file.read(size) if OVERHEAD_BYTES <= size <= PART_BYTES + OVERHEAD_BYTES else b""
        if not box or len(box) != size:
            raise SealBroken(
                f"{name} is cut off or damaged at part {number}.", path=name, key=number
            )
        try:
            yield vault.open(Place("part", key=number), box)
        except SealBroken:
            yield vault.open(Place("end", key=number), box)
            if file.read(1):
                raise SealBroken(
                    f"Something follows the end of {name}.", path=name, key=number
                ) from None
            return
        number += 1


class SealedReader(io.RawIOBase):
    """The contents of a sealed file, as a file."""

    def __init__(self, file: IO[bytes], vault: Sealer, name: str) -> None:
        super().__init__()
        self._parts = read_parts(file, vault, name)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._left = memoryview(part)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def key_required(name: str) -> KeyRequired:
    return KeyRequired(f"{name} is sealed.", action="Read it with key=...", path=name)
