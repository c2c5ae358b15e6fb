"""Conditions on paths without an index, as SQL over the JSON text: only what SQLite answers
exactly, with a guard for the type."""

from __future__ import annotations

import re
from typing import Any

from homeport.core.conditions import (
    AnyOf,
    Between,
    Compare,
    Condition,
    Missing,
    OfType,
    Size,
    StartsWith,
)
from homeport.core.keys import FALSE, MAX_SAFE_INT, TRUE, encode

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_ -]+")
_SQL_TYPES = {
    "null": ("null",),
    "boolean": ("true", "false"),
    "number": ("integer", "real"),
    "string": ("text",),
    "array": ("array",),
    "object": ("object",),
}


def unindexed(condition: Condition, path: str, params: list[Any]) -> str | None:
    """The SQL of a condition on the document text; None when SQLite cannot answer it exactly."""
    json_path = _json_path(path)
    if json_path is None:
        return None
    value, kind = f"json_extract(doc,{json_path})", f"json_type(doc,{json_path})"
    if isinstance(condition, Compare):
        return _compare(condition.op, condition.value, value, kind, params)
    if isinstance(condition, Between):
        low = _compare(">" if condition.low_open else ">=", condition.low, value, kind, params)
        if low is None:
            return None
        high = _compare("<" if condition.high_open else "<=", condition.high, value, kind, params)
        return None if high is None else f"({low} AND {high})"
    if isinstance(condition, AnyOf):
        pieces = [_compare("==", item, value, kind, params) for item in condition.values[:33]]
        if len(condition.values) > 32 or None in pieces:
            return None
        return f"({' OR '.join(filter(None, pieces))})" if pieces else "0"
    if isinstance(condition, StartsWith) and "\x00" not in condition.prefix:
        if encode(condition.prefix) is None:
            return None
        params.append(condition.prefix)
        test = f"substr({value},1,{len(condition.prefix)})=?"
        return f"({kind}='text' AND {test})"
    return _of_type(condition, json_path, kind)


def _of_type(condition: Condition, json_path: str, kind: str) -> str | None:
    if isinstance(condition, Missing):
        return f"({kind} IS NULL)"
    if isinstance(condition, Size):
        return f"({kind}='array' AND json_array_length(doc,{json_path})={condition.size})"
    if isinstance(condition, OfType):
        names = "','".join(name for type_ in condition.types for name in _SQL_TYPES[type_])
        return f"({kind} IN ('{names}'))"
    return None


def _compare(op: str, operand: object, value: str, kind: str, params: list[Any]) -> str | None:
    if op == "!=":
        equal = _compare("==", operand, value, kind, params)
        return None if equal is None else f"({equal} IS NOT TRUE)"
    op = "=" if op == "==" else op
    if operand is None:
        return f"({kind}='null')" if op == "=" else None
    encoded = encode(operand)
    if encoded in (TRUE, FALSE):
        return f"({kind}='{'true' if encoded == TRUE else 'false'}')" if op == "=" else None
    if isinstance(encoded, str):
        # Only equality: SQLite orders raw text by code points, not by UTF-16.
        if op != "=":
            return None
        params.append(operand)
        return f"({value}=? AND {kind}='text')"
    if encoded is None or isinstance(encoded, bytes):
        return None
    params.append(encoded)
    safe = f"{value} BETWEEN -{MAX_SAFE_INT} AND {MAX_SAFE_INT}"
    return f"({value}{op}? AND ({kind}='real' OR {kind}='integer' AND {safe}))"


def json_type(path: str, test: str, before: str) -> str | None:
    """A test of the JSON type at a path, behind another condition."""
    json_path = _json_path(path)
    if json_path is None:
        return None
    return f"({before}json_type(doc,{json_path}){test if test[0] == '=' else ' ' + test})"


def _json_path(path: str) -> str | None:
    """A path as SQL text of a JSON path; None when a name needs quoting that SQLite has not."""
    names = path.split(".")
    if not all(map(_PLAIN_NAME.fullmatch, names)):
        return None
    return "'$" + "".join(f'."{name}"' for name in names) + "'"
