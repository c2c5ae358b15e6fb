"""Full-text queries in the language of FTS5. Text only, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from homeport.core.textquery import Asked, Either, Term


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
