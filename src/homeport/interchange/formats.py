"""Which format a file has, and what reads and writes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from homeport.core.cellkinds import NULL, CellType
from homeport.errors import HomeportError, UsageError
from homeport.interchange.csv_table import TableReader, TableWriter
from homeport.interchange.files import Input, Output
from homeport.interchange.json_array import ArrayReader, ArrayWriter
from homeport.interchange.json_lines import LinesReader, LinesWriter
from homeport.interchange.kinds import FORMATS, Format, Place
from homeport.interchange.parquet import ParquetReader, ParquetWriter

if TYPE_CHECKING:
    from homeport.storage.secret import Secret

_SUFFIXES: Final[Mapping[str, Format]] = {
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


class Reader(Protocol):
    """Reads the documents of a file."""

    def rows(self) -> Iterator[tuple[int, dict[str, Any] | HomeportError]]:
        """(line, document or why there is none); what ends the reading is raised."""
        ...


class Writer(Protocol):
    """Writes the texts of documents into a file. passes: how often it wants to see them; with two,
    ``see`` is called with all of them first."""

    @property
    def passes(self) -> int: ...

    def see(self, texts: list[str]) -> None: ...

    def write(self, texts: list[str]) -> None: ...

    def end(self) -> None: ...


def format_of(place: Place, given: str | None) -> Format:
    """The format by name, or by the ending of the path; ``.gz`` behind it is looked through."""
    if given is not None:
        for name in FORMATS:
            if given == name:
                return name
        raise UsageError(f"There is no format {given!r}; use one of {', '.join(FORMATS)}.")
    if isinstance(place, (str, os.PathLike)):
        name = os.fspath(place).lower().removesuffix(".gz")
        found = _SUFFIXES.get(os.path.splitext(name)[1])  # noqa: PTH122 (a text)
        if found is not None:
            return found
    raise UsageError(
        f"The name {place!r:.80} does not say the format of the file.",
        action=f"Pass format=, one of {', '.join(FORMATS)}.",
    )


def delimiter_of(place: Place, given: str | None) -> str:
    """A tab for ``.tsv``, else a comma."""
    if given is not None:
        return given
    named = isinstance(place, (str, os.PathLike))
    return "\t" if named and os.fspath(place).lower().removesuffix(".gz").endswith(".tsv") else ","  # type: ignore[arg-type]


def open_reader(
    place: Place,
    given: str | None,
    *,
    encoding: str | None,
    delimiter: str | None,
    null: str | None = NULL,
    types: Mapping[str, CellType],
    kinds_of: Callable[[str], set[str] | None],
    secret: Secret | None = None,
) -> tuple[Input, Reader]:
    """What reads a file. Raises ``CannotOpen``, ``UsageError``."""
    kind = format_of(place, given)
    if types and kind != "csv":
        raise UsageError("types= is about the cells of CSV files.")
    twice = kind in ("csv", "parquet")
    source = Input(place, again=twice, encoding=encoding, secret=secret)
    if kind == "csv":
        return source, TableReader(
            source,
            delimiter=delimiter_of(place, delimiter),
            guessed=delimiter is None,
            null=null,
            types=types,
            kinds_of=kinds_of,
        )
    if kind == "parquet":
        return source, ParquetReader(source)
    return source, LinesReader(source) if kind == "ndjson" else ArrayReader(source)


def open_writer(
    place: Place,
    given: str | None,
    *,
    key: str,
    delimiter: str | None,
    secret: Secret | None = None,
) -> tuple[Output, Writer]:
    """What writes a file. Raises ``CannotOpen``, ``UsageError``, ``MissingDependency``."""
    kind = format_of(place, given)
    if kind == "parquet":
        if isinstance(place, (str, os.PathLike)) and os.fspath(place).lower().endswith(".gz"):
            raise UsageError("A Parquet file is compressed inside.", action="Leave .gz away.")
        target = Output(place, zipped=False, secret=secret)
        return target, _guarded(target, lambda: ParquetWriter(target, key))
    delimiter = delimiter_of(place, delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise UsageError(f"delimiter is one character, not {delimiter!r}.")
    target = Output(place, secret=secret)
    if kind == "csv":
        return target, TableWriter(target, key=key, delimiter=delimiter)
    return target, LinesWriter(target) if kind == "ndjson" else ArrayWriter(target)


def _guarded(target: Output, make: Callable[[], Writer]) -> Writer:
    try:
        return make()
    except BaseException:
        target.abort()
        raise
