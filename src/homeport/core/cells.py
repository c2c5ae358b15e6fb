"""Documents as rows of texts (CSV) and back, without guessing.

A document becomes columns by its paths (``casing.depth_m``); lists and empty objects are JSON in
one cell. An empty cell is a field that is not there.

A column is *literal* or *text*. In a literal column every cell is JSON: ``12``, ``true``, ``null``,
``"12"``, ``[1, 2]``. In a text column every cell is a text as it stands, except that ``null`` is
null. Whoever reads a file takes a column as literal only if all its cells are JSON as a program
would write it, so ``007``, ``1.50``, ``+5`` and numbers beyond 2**53 make a text column: nothing
loses a character. Whoever writes one makes a column literal where a text in it would otherwise be
misread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from homeport.core import jsontext
from homeport.core.cellkinds import NULL, CellType
from homeport.core.keys import MAX_SAFE_INT

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_encode: Final = msgspec.json.Encoder().encode
_WORDS: Final[Mapping[str, Any]] = {"true": True, "false": False, "null": None}


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final[Any] = _Missing()
"""The cell of a field that is not there; also: the text is no literal."""


# -- documents and columns


def flatten(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything inside that is no object, and of empty objects."""
    for name, value in document.items():
        path = prefix + name
        if type(value) is dict and value:
            yield from flatten(value, path + ".")
        else:
            yield path, value


def nest(cells: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Values by path → a document. Raises ``ValueError`` when a path leads through a value."""
    document: dict[str, Any] = {}
    for path, value in cells:
        *parents, last = path.split(".")
        inside = document
        for name in parents:
            step = inside.setdefault(name, {})
            if not isinstance(step, dict):
                raise ValueError(  # noqa: TRY004 - the cells are wrong, not a type
                    f"{path} is inside of {name}, which has a value of its own"
                )
            inside = step
        if last in inside:
            raise ValueError(f"{path} has a value of its own and others inside")
        inside[last] = value
    return document


# -- reading


def literal(cell: str) -> Any:
    """The JSON value of a cell that is JSON exactly as a program would write it; else MISSING."""
    first = cell[:1]
    if first in "tfn":
        return _WORDS.get(cell, MISSING)
    if first in '"[{':
        try:
            return jsontext.decode(cell)
        except (ValueError, RecursionError):
            return MISSING
    return _number(cell)


def _number(cell: str) -> Any:
    found = _NUMBER.fullmatch(cell)
    if found is None:
        return MISSING
    if found[1] is None and found[2] is None:
        value = int(cell) if len(cell) < 18 else MAX_SAFE_INT + 1
        return value if abs(value) <= MAX_SAFE_INT and cell != "-0" else MISSING
    number = float(cell)
    return number if _encode(number) == cell.encode() else MISSING


class Survey:
    """Which columns of a file are literal; every row is shown to it once."""

    def __init__(self, columns: int, null: str | None) -> None:
        self._null = null
        self._open = set(range(columns))

    def see(self, row: list[str]) -> None:
        """One row, of as many cells as there are columns."""
        for place in list(self._open):
            cell = row[place]
            if cell and cell != self._null and literal(cell) is MISSING:
                self._open.discard(place)

    @property
    def literals(self) -> set[int]:
        """Columns without a cell that is plain text."""
        return self._open


def reader(*, literals: bool, null: str | None) -> Callable[[str], Any]:
    """The function that reads the cells of one column."""

    def read(cell: str) -> Any:
        if not cell:
            return MISSING
        if cell == null:
            return None
        return literal(cell) if literals else cell

    return read


def typed_reader(kind: CellType, null: str | None) -> Callable[[str], Any]:
    """The same for a type that was asked for. Raises ``ValueError``."""
    convert = _CONVERSIONS[kind]

    def read(cell: str) -> Any:
        if not cell:
            return MISSING
        return None if cell == null else convert(cell)

    return read


def model_reader(plain: Callable[[str], Any], kinds: set[str]) -> Callable[[str], Any]:
    """``plain``, corrected by what the model says about the field: a text stays a text although the
    whole column looks like numbers, and a number may be written in any form."""
    wordy = kinds - {"null"} <= _WORDY
    numbers = bool(kinds & {"int", "float"}) and "str" not in kinds

    def read(cell: str) -> Any:
        value = plain(cell)
        if isinstance(value, str):
            return _loose_number(value) if numbers else value
        if wordy and (isinstance(value, (bool, int, float)) or (value is None and _bare(kinds))):
            return cell
        return value

    return read


_WORDY: Final = frozenset(
    ("str", "datetime", "date", "time", "uuid", "decimal", "timedelta", "bytes")
)
"""Types of a model whose JSON form is a text."""


def _bare(kinds: set[str]) -> bool:
    return "null" not in kinds


def _loose_number(cell: str) -> Any:
    try:
        return read_number(cell)
    except ValueError:
        return cell  # the model says what is wrong with it


def read_number(cell: str) -> int | float:
    """A number in any common form."""
    text = cell.strip()
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text)
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        raise ValueError(f"{cell!r:.40} is no number")
    return float(text)


def _integer(cell: str) -> int:
    value = read_number(cell)
    if isinstance(value, float):
        raise ValueError(f"{cell!r:.40} is no whole number")  # noqa: TRY004 - the cell is wrong
    return value


def _boolean(cell: str) -> bool:
    value = {"true": True, "false": False, "1": True, "0": False}.get(cell.strip().lower())
    if value is None:
        raise ValueError(f"{cell!r:.40} is neither true nor false")
    return value


def _json(cell: str) -> Any:
    try:
        return jsontext.decode(cell)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{cell!r:.40} {jsontext.fault(error)}") from None


_CONVERSIONS: Final[Mapping[str, Callable[[str], Any]]] = {
    "text": str,
    "number": read_number,
    "integer": _integer,
    "boolean": _boolean,
    "json": _json,
}


# -- writing


class Columns:
    """The columns of documents that are to be written; every document is shown to it once."""

    def __init__(self, key: str) -> None:
        """key: the column that is there even without a document."""
        self._found: dict[str, _Column] = {key: _Column()}

    def see(self, document: Mapping[str, Any]) -> None:
        found = self._found
        for path, value in flatten(document):
            column = found.get(path)
            if column is None:
                column = found[path] = _Column()
            if not column.literal:
                column.see(value)

    @property
    def paths(self) -> list[str]:
        """The key, and all others in order of first appearance."""
        return list(self._found)

    def rows(self, documents: Iterable[Mapping[str, Any]]) -> Iterator[list[str]]:
        """The cells of each document."""
        places = {path: n for n, path in enumerate(self._found)}
        literals = [column.literal or not column.plain for column in self._found.values()]
        for document in documents:
            row = [""] * len(places)
            for path, value in flatten(document):
                place = places[path]
                row[place] = write(value, literals=literals[place])
            yield row


class _Column:
    """literal: something in it is no text, or a text that a text column could not hold. plain: a
    text in it can only be read as a text."""

    __slots__ = ("literal", "plain")

    def __init__(self) -> None:
        self.literal = False
        self.plain = False

    def see(self, value: Any) -> None:
        if value is None:
            return
        if type(value) is not str or not value or value == NULL or "\r" in value:
            self.literal = True
        elif not self.plain:
            self.plain = literal(value) is MISSING


def write(value: Any, *, literals: bool) -> str:
    """A value as a cell."""
    if type(value) is str and not literals:
        return value
    return NULL if value is None else _encode(value).decode()
