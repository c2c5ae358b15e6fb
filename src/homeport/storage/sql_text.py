"""Full-text queries in the language of FTS5, and how their rows are read. Text only, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from homeport.core.textquery import Asked, Either, Term

if TYPE_CHECKING:
    from homeport.storage.sql import Statements
    from homeport.storage.sql_query import Where


def match_expression(
    asked: Asked, columns: Sequence[str], fields: Mapping[str, str] | None = None
) -> str:
    """The right-hand side of MATCH. columns: quoted, where the words may stand; fields: field
    name → quoted column, for terms that name their field.

    Every word is quoted and holds letters, digits and marks alone, so nothing that a user types is
    read as an operator of FTS5.
    """
    every = f"{{{' '.join(columns)}}} : "
    fields = fields or {}

    def write(part: Asked) -> str:
        if isinstance(part, Term):
            where = f"{fields[part.field]} : " if part.field else every
            return f'{where}"{" ".join(part.words)}"{" *" if part.prefix else ""}'
        if isinstance(part, Either):
            return f"({' OR '.join(map(write, part.items))})"
        found = " AND ".join(map(write, part.items))
        if not part.without:
            return f"({found})"
        return f"(({found}) NOT ({' OR '.join(map(write, part.without))}))"

    return write(asked)


def source_of(statements: Statements, where: Where, *, streaming: bool) -> tuple[str, list[Any]]:
    """FROM and WHERE of a condition. streaming: in no order, and perhaps not to the end; then the
    full text is asked row by row, where a set of all its rows would be made first."""
    if streaming and where.match:
        text = statements.text
        joined = f"{text} CROSS JOIN {statements.table} ON seq={text}.rowid"
        rest = f" AND {where.rest_sql}" if where.rest_sql else ""
        return f"FROM {joined} WHERE {text} MATCH ?{rest}", [where.match, *where.rest_params]
    condition = f" WHERE {where.sql}" if where.sql else ""
    return f"FROM {statements.table}{condition}", where.params
