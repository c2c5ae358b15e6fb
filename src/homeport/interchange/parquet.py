"""Parquet, through pyarrow: a column for each field, nested ones as structs and lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from homeport.core import jsontext
from homeport.core.plain import builtins
from homeport.core.shapes import JSON, Shape, Shapes, without_nulls
from homeport.errors import FormatError, HomeportError, MissingDependency
from homeport.interchange.files import Input, Output

GROUP_ROWS: Final = 20_000
"""Rows of one group of the file; that many are in memory at once."""

READ_ROWS: Final = 1_000
_MARK: Final = b"homeport"
_AS_JSON: Final = {_MARK: b"json"}
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


def arrow() -> tuple[Any, Any]:
    """pyarrow and its parquet module."""
    try:
        import pyarrow  # noqa: PLC0415, ICN001
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependency(
            "Parquet files need pyarrow, which is not installed.",
            action="pip install 'homeport[arrow]'",
        ) from error
    return pyarrow, pyarrow.parquet


class ParquetReader:
    """Documents of a Parquet file; its "lines" are rows from 1."""

    def __init__(self, source: Input) -> None:
        self.source = source

    def rows(self) -> Iterator[tuple[int, dict[str, Any] | HomeportError]]:
        pa, parquet = arrow()
        try:
            file = parquet.ParquetFile(self.source.binary())
            json = [f.name for f in file.schema_arrow if (f.metadata or {}).get(_MARK) == b"json"]
            number = 0
            for batch in file.iter_batches(batch_size=READ_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, self._document(number, row, json)
        except (pa.ArrowException, OSError) as error:
            raise FormatError(
                f"{self.source.name} is no readable Parquet file: {error}.",
                path=self.source.name,
                line=0,
            ) from error

    def _document(
        self, number: int, row: dict[str, Any], json: list[str]
    ) -> dict[str, Any] | HomeportError:
        texts = {name: row.pop(name) for name in json}
        try:
            document = {
                name: jsontext.decode(texts[name]) if name in texts else value
                for name, value in self._values(row, texts)
            }
        except (ValueError, TypeError, RecursionError, msgspec.MsgspecError) as error:
            return self.source.error(number, f"cannot be read: {error}")
        return document

    def _values(self, row: dict[str, Any], texts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        yield from without_nulls(builtins(row)).items()
        for name, text in texts.items():
            if text is not None:
                yield name, text


class ParquetWriter:
    """Writes a Parquet file. Documents are seen twice: first for the types of the columns."""

    passes = 2

    def __init__(self, target: Output, key: str) -> None:
        arrow()
        self._target = target
        self._shapes = Shapes(key)
        self._writer: Any = None
        self._schema: Any = None
        self._json: list[str] = []
        self._waiting: list[dict[str, Any]] = []

    def see(self, texts: list[str]) -> None:
        """The first pass."""
        for text in texts:
            self._shapes.see(_decode(text))

    def write(self, texts: list[str]) -> None:
        waiting, json = self._waiting, self._json_columns()
        for text in texts:
            document = _decode(text)
            for name in json:
                if name in document:
                    document[name] = _encode(document[name]).decode()
            waiting.append(document)
        if len(waiting) >= GROUP_ROWS:
            self._flush()

    def _json_columns(self) -> list[str]:
        if self._writer is None:
            pa, parquet = arrow()
            columns = self._shapes.columns
            self._json = [name for name, shape in columns.items() if not _typed(shape)]
            self._schema = pa.schema(
                [
                    pa.field(name, pa.string(), metadata=_AS_JSON)
                    if name in self._json
                    else pa.field(name, _type(pa, shape))
                    for name, shape in columns.items()
                ]
            )
            self._writer = parquet.ParquetWriter(
                self._target.stream, self._schema, compression="zstd"
            )
        return self._json

    def _flush(self) -> None:
        pa, _ = arrow()
        table = pa.Table.from_pylist(self._waiting, schema=self._schema)
        self._writer.write_table(table)
        self._waiting.clear()

    def end(self) -> None:
        self._json_columns()
        if self._waiting:
            self._flush()
        self._writer.close()


def _typed(shape: Shape) -> bool:
    """Has Parquet a type for it? Not for a field of which nothing is known."""
    if isinstance(shape, dict):
        return all(map(_typed, shape.values()))
    if isinstance(shape, list):
        return _typed(shape[0])
    return shape is not None and shape != JSON


def _type(pa: Any, shape: Shape) -> Any:
    if isinstance(shape, dict):
        return pa.struct([pa.field(name, _type(pa, inner)) for name, inner in shape.items()])
    if isinstance(shape, list):
        return pa.list_(_type(pa, shape[0]))
    kinds = {"bool": pa.bool_, "int": pa.int64, "float": pa.float64, "text": pa.string}
    return kinds[shape]()
