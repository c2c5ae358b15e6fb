"""The formats by name, and where a file may be; apart from what reads and writes them, because
every program that imports Homeport loads this."""

from __future__ import annotations

import os
from typing import IO, Final, Literal, TypeAlias

Place: TypeAlias = "str | os.PathLike[str] | IO[bytes]"
"""A path, or a file that is open for bytes."""

Format: TypeAlias = Literal["json", "ndjson", "csv", "parquet"]
FORMATS: Final = ("json", "ndjson", "csv", "parquet")
