"""CSV: a row for each document, a column for each path. What a cell means is in ``core.cells``."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from homeport.core import cells
from homeport.core.cellkinds import CELL_TYPES, CellType
from homeport.core.cells import MISSING, Columns, Survey
from homeport.errors import FormatError, HomeportError, UsageError
from homeport.interchange.files import Input, Output

CELL_CHARACTERS: Final = 64 * 1024 * 1024
"""The csv module refuses cells longer than 128 KB by default, which documents may have."""

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class TableReader:
    """Documents of a CSV file with a header.

    guessed: nobody said that this is the delimiter; a header of one column with another in it is
    refused. kinds_of: path → the types that the model allows there, None when it does not say. The
    file is read twice: first to see which columns hold nothing but JSON values.
    """

    def __init__(
        self,
        source: Input,
        *,
        delimiter: str,
        guessed: bool = False,
        null: str | None,
        types: Mapping[str, CellType],
        kinds_of: Callable[[str], set[str] | None],
    ) -> None:
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise UsageError(f"delimiter is one character, not {delimiter!r}.")
        unknown = sorted(set(types.values()) - set(CELL_TYPES))
        if unknown:
            raise UsageError(
                f"There is no type {unknown[0]!r} of CSV cells; use {', '.join(CELL_TYPES)}."
            )
        self.source = source
        self._delimiter = delimiter
        self._guessed = guessed
        self._null = null
        self._types = types
        self._kinds_of = kinds_of

    def rows(self) -> Iterator[tuple[int, dict[str, Any] | HomeportError]]:
        header, literals = self._survey()
        self.source.again()
        readers = [
            self._reader(path, literals=place in literals) for place, path in enumerate(header)
        ]
        first = True
        for number, row in self._records():
            if first:
                first = False
                continue
            if isinstance(row, FormatError):
                yield number, row
                continue
            yield number, self._document(number, header, readers, row)

    def _document(
        self, number: int, header: list[str], readers: list[Any], row: list[str]
    ) -> dict[str, Any] | FormatError:
        if len(row) != len(header):
            return self.source.error(
                number, f"has {len(row)} cells, and the header names {len(header)} columns"
            )
        found = []
        for path, read, cell in zip(header, readers, row, strict=True):
            try:
                value = read(cell)
            except ValueError as error:
                return self.source.error(number, f", column {path}: {error}")
            if value is not MISSING:
                found.append((path, value))
        try:
            return cells.nest(found)
        except ValueError as error:
            return self.source.error(number, f"contradicts itself: {error}")

    def _reader(self, path: str, *, literals: bool) -> Callable[[str], Any]:
        asked = self._types.get(path)
        if asked is not None:
            return cells.typed_reader(asked, self._null)
        read = cells.reader(literals=literals, null=self._null)
        kinds = self._kinds_of(path)
        return read if kinds is None else cells.model_reader(read, kinds)

    def _survey(self) -> tuple[list[str], set[int]]:
        records = self._records()
        number, header = next(records, (1, []))
        if isinstance(header, FormatError):
            raise header
        self._check_header(number, header)
        survey = Survey(len(header), self._null)
        for _, row in records:
            if not isinstance(row, FormatError) and len(row) == len(header):
                survey.see(row)
        return header, survey.literals

    def _check_header(self, number: int, header: list[str]) -> None:
        if not header:
            raise self.source.error(number, "has no header: the first line names the columns")
        if any(char < "\t" for path in header for char in path):
            raise self.source.error(number, "is no text, so this is no CSV file")
        other = next((c for c in ";\t|," if c in header[0]), None) if len(header) == 1 else None
        if other is not None and self._guessed:
            raise FormatError(
                f"{self.source.name}, line {number} names one column, {header[0]!r:.80}: is "
                f"{other!r} the delimiter?",
                action=f"Pass delimiter={other!r}, or delimiter={self._delimiter!r} if it is one "
                "column.",
                path=self.source.name,
                line=number,
            )
        for path in header:
            if not path or any(not name for name in path.split(".")):
                raise self.source.error(number, f"names a column {path!r}, which is no path")
            if header.count(path) > 1:
                raise self.source.error(number, f"names the column {path!r} twice")
        unknown = sorted(set(self._types) - set(header))
        if unknown:
            raise UsageError(
                f"{self.source.name} has no column {unknown[0]!r}; it has: {', '.join(header)}."
            )

    def _records(self) -> Iterator[tuple[int, list[str] | FormatError]]:
        """(line on which it begins, cells); rows without anything are passed over."""
        csv.field_size_limit(max(csv.field_size_limit(), CELL_CHARACTERS))
        lines = _Lines(self.source.lines())
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        while True:
            begins = lines.number + 1
            try:
                row = next(reader, None)
            except FormatError as error:
                if lines.number > begins:
                    raise  # inside of a quoted cell: nobody can say where the next row begins
                yield begins, error
                reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
                continue
            except csv.Error as error:
                wrong = self.source.error(begins, f"is no row of a CSV file: {error}")
                if lines.number > begins:
                    raise wrong from error
                yield begins, wrong
                reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
                continue
            if row is None:
                return
            if row:
                yield begins, row


class _Lines:
    """Lines for the csv module, which keeps their ends inside of quoted cells."""

    def __init__(self, lines: Iterator[tuple[int, str | FormatError]]) -> None:
        self._lines = lines
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        if isinstance(line, FormatError):
            raise line
        return line


class TableWriter:
    """Writes a CSV file. Documents are seen twice: first for the columns."""

    passes = 2

    def __init__(self, target: Output, *, key: str, delimiter: str) -> None:
        self._target = target
        self._columns = Columns(key)
        self._delimiter = delimiter
        self._headed = False

    def see(self, texts: list[str]) -> None:
        """The first pass."""
        for text in texts:
            self._columns.see(_decode(text))

    def write(self, texts: list[str]) -> None:
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, delimiter=self._delimiter, lineterminator="\n")
        if not self._headed:
            self._headed = True
            writer.writerow(self._columns.paths)
        writer.writerows(self._columns.rows(map(_decode, texts)))
        self._target.write(buffer.getvalue().encode())

    def end(self) -> None:
        if not self._headed:
            self.write([])
