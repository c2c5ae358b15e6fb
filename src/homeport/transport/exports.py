"""Files with what has not reached the server: one JSON object a line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from homeport.errors import CannotOpen


def write_lines(path: str | Path, records: Iterable[Mapping[str, Any]]) -> int:
    """Write the records, all or no file; safe on disk when this returns → how many.

    Raises:
        CannotOpen: the file cannot be written.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    count = 0
    try:
        with partial.open("wb") as file:
            for record in records:
                file.write(msgspec.json.encode(record) + b"\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CannotOpen(
            f"{target} cannot be written: {error.strerror or error}.",
            action="Name a file in a folder that you may write to.",
        ) from error
    return count
