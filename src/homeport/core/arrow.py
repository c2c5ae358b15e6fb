"""Documents as Arrow tables, with a schema that hangs on the model and not on what is in it.

Fields keep their stored names. Texts, numbers and booleans are what they are; dates, times and
points in time become Arrow's; a list, and an object with known fields, become list and struct. What
has no single type (a union, ``Any``, a dict) is JSON text, so that a column never changes its type
from one query to the next. Without a model the types are found in the documents. pyarrow is
imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import time
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from homeport.core.models import decode_object, encode_json
from homeport.core.modeltree import Node
from homeport.errors import InvalidDocument, MissingDependency

if TYPE_CHECKING:
    from homeport.core.codec import Table

BATCH_ROWS: Final = 10_000
MAX_DEPTH: Final = 8

_TEMPORAL: Final = frozenset(("datetime", "date", "time"))
_TEXTS: Final = frozenset(("str", "uuid", "decimal", "timedelta", "bytes"))

Read = Callable[[Any], Any]


def pyarrow() -> Any:
    """The package; ``MissingDependency`` without it."""
    try:
        import pyarrow as pa  # noqa: PLC0415 # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingDependency(
            "to_arrow() needs pyarrow, which is not installed.",
            action="pip install 'homeport[arrow]'",
        ) from error
    return pa


def polars() -> Any:
    """The package; ``MissingDependency`` without it."""
    try:
        import polars as pl  # noqa: PLC0415 # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingDependency(
            "to_polars() needs polars, which is not installed.",
            action="pip install 'homeport[arrow]'",
        ) from error
    return pl


def to_table(table: Table[Any], texts: Sequence[str]) -> Any:
    """Stored texts → ``pyarrow.Table``, converted some thousand at a time."""
    pa = pyarrow()
    tree = table.collection.tree
    fields = _fields_of(pa, tree) if tree is not None else _fields_found(pa, texts)
    schema = pa.schema([(name, kind) for name, kind, _ in fields])
    batches = [_batch(pa, schema, fields, rows) for rows in _chunks(texts)]
    return pa.Table.from_batches(batches, schema=schema)


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(texts)
    while rows := [*islice(rest, BATCH_ROWS)]:
        yield rows


def _batch(pa: Any, schema: Any, fields: list[tuple[str, Any, Read]], rows: list[str]) -> Any:
    docs = [decode_object(text) for text in rows]
    columns = []
    for name, kind, read in fields:
        try:
            columns.append(_column(pa, kind, [read(doc.get(name)) for doc in docs]))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise InvalidDocument(
                f"{name} holds a value that is no {kind}: {error}.",
                action="Correct the document, or leave it out by a condition.",
                path=name,
            ) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(pa: Any, kind: Any, values: list[Any]) -> Any:
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return pa.array(values, pa.string()).cast(kind)
    return pa.array(values, kind)


# -- from the model


def _fields_of(pa: Any, tree: Node) -> list[tuple[str, Any, Read]]:
    return [
        (field.stored, *_type_of(pa, field.node, 0, top=True)) for field in tree.fields().values()
    ]


def _type_of(pa: Any, node: Node, depth: int, *, top: bool = False) -> tuple[Any, Read]:
    """The Arrow type of a node, and what makes its values from stored ones."""
    kinds = node.kinds - {"null"}
    if node.open or node.value is not None or depth >= MAX_DEPTH:
        return pa.string(), _json
    if node.shapes:
        return _struct(pa, node, depth) if not kinds and len(node.shapes) == 1 else _any(pa)
    if node.item is not None:
        if kinds:
            return _any(pa)
        kind, read = _type_of(pa, node.item, depth + 1)
        return pa.list_(kind), lambda v: None if v is None else [read(item) for item in v]
    if kinds <= {"int"} and kinds:
        return pa.int64(), _same
    if kinds <= {"int", "float"} and kinds:
        return pa.float64(), _same
    if kinds == {"bool"}:
        return pa.bool_(), _same
    if kinds <= _TEXTS and kinds:
        return pa.string(), _same
    if kinds and kinds <= _TEXTS | {"enum"}:
        return _enum(pa, node) if kinds == {"enum"} else (pa.string(), _text)
    # Times inside lists and structs stay texts: Arrow casts whole columns.
    if top and len(kinds) == 1 and kinds <= _TEMPORAL:
        (kind,) = kinds
        if kind == "datetime":
            return pa.timestamp("us", tz=None if node.naive else "UTC"), _same
        return (pa.date32(), _same) if kind == "date" else (pa.time64("us"), _time)
    if kinds <= _TEMPORAL and kinds:
        return pa.string(), _same
    return _any(pa)


def _enum(pa: Any, node: Node) -> tuple[Any, Read]:
    values = [member.value for cls in node.python if issubclass(cls, Enum) for member in cls]
    if values and all(type(value) is int for value in values):
        return pa.int64(), _same
    return pa.string(), _text


def _struct(pa: Any, node: Node, depth: int) -> tuple[Any, Read]:
    parts = [
        (field.stored, *_type_of(pa, field.node, depth + 1))
        for field in node.shapes[0].fields.values()
    ]

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            return None
        return {name: inner(value.get(name)) for name, _, inner in parts}

    return pa.struct([(name, kind) for name, kind, _ in parts]), read


def _any(pa: Any) -> tuple[Any, Read]:
    return pa.string(), _json


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else _json(value)


def _time(value: Any) -> Any:
    return None if value is None else time.fromisoformat(value)


def _json(value: Any) -> Any:
    return None if value is None else encode_json(value).decode()


# -- from the documents


def _fields_found(pa: Any, texts: Iterable[str]) -> list[tuple[str, Any, Read]]:
    """Every name in the order of its first appearance, with the one type that holds its values."""
    kinds: dict[str, set[type[Any]]] = {}
    for text in texts:
        for name, value in decode_object(text).items():
            found = kinds.setdefault(name, set())
            if value is not None:
                found.add(type(value))
    fields: list[tuple[str, Any, Read]] = []
    for name, found in kinds.items():
        if found == {int}:
            fields.append((name, pa.int64(), _same))
        elif found <= {int, float} and found:
            fields.append((name, pa.float64(), _same))
        elif found == {bool}:
            fields.append((name, pa.bool_(), _same))
        elif found <= {str}:
            fields.append((name, pa.string(), _same))
        else:
            fields.append((name, pa.string(), _json))
    return fields
