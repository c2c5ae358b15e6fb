"""Files with what has not reached the server: one JSON object a line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from homeport.errors import CannotOpen


@contextmanager
def lines(path: str | Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A new file, given as what adds a line; at the end of the block it is there, safe on disk, or
    not at all.

    Raises:
        CannotOpen: the file cannot be written.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            yield lambda record: _write(file, record)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise CannotOpen(
            f"{target} cannot be written: {error.strerror or error}.",
            action="Name a file in a folder that you may write to.",
        ) from error


def write_lines(path: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write the records, all or no file. Raises ``CannotOpen``."""
    with lines(path) as write:
        for record in records:
            write(record)


def _write(file: BinaryIO, record: Mapping[str, Any]) -> None:
    file.write(msgspec.json.encode(record) + b"\n")
