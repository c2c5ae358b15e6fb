"""The words that say what cells of a CSV file mean; apart from ``cells``, because every program
that imports Homeport loads them."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

CellType: TypeAlias = Literal["text", "number", "integer", "boolean", "json"]
CELL_TYPES: Final = ("text", "number", "integer", "boolean", "json")

NULL: Final = "null"
