"""The order of a query as SQL text, and positions in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homeport.core.keys import Encoded
from homeport.core.query import QueryValue
from homeport.storage.sql import Statements


def order_columns(query: QueryValue, statements: Statements) -> list[tuple[str, bool]] | None:
    """(SQL expression, descending) of the order, ending in the key; None = Python has to sort."""
    out: list[tuple[str, bool]] = []
    for path, down in query.order:
        if path == "":
            out.append(("id", down))
            continue
        column = statements.column_of.get(path)
        if column is None:
            return None
        out.append((f"+{column}" if path in statements.hashed else column, down))
    if not out or out[-1][0] != "id":
        out.append(("id", out[-1][1] if out else False))
    return out


def order_by(columns: Sequence[tuple[str, bool]]) -> str:
    """Missing values last in both directions; SQLite's own order has them first ascending."""
    return ", ".join(
        f"{name} DESC" if down else name if name == "id" else f"{name} NULLS LAST"
        for name, down in columns
    )


def position(
    columns: Sequence[tuple[str, bool]], values: Sequence[Encoded | None]
) -> tuple[str, list[Any]]:
    """The condition "behind this position", by the order of ``order_by``."""
    ors: list[str] = []
    params: list[Any] = []
    same: list[str] = []
    same_params: list[Any] = []
    for (name, down), value in zip(columns, values, strict=True):
        if value is not None:
            past = f"{name}{'<' if down else '>'}?"
            if name != "id":
                past = f"({past} OR {name} IS NULL)"
            ors.append(" AND ".join([*same, past]))
            params += [*same_params, value]
        same.append(f"{name} IS ?" if value is None else f"{name}=?")
        same_params.append(value)
    return f"({' OR '.join(f'({one})' for one in ors)})" if ors else "0", params
