"""Documents as an Arrow table; pyarrow is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from homeport.errors import MissingDependency


def to_table(documents: Iterable[dict[str, Any]]) -> Any:
    """→ pyarrow.Table, one column per field; types are found by pyarrow."""
    try:
        import pyarrow  # noqa: PLC0415, ICN001 # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingDependency(
            "to_arrow() needs pyarrow, which is not installed.",
            action="pip install 'homeport[arrow]'",
        ) from error
    return pyarrow.Table.from_pylist(list(documents))
