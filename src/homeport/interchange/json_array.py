"""JSON: one array of documents, read and written piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from homeport.core import jsontext
from homeport.errors import FormatError, HomeportError
from homeport.interchange.files import MAX_LINE_BYTES, Input, Output

_SPACE: Final = " \t\n\r"
_NEAR_END: Final = 32
"""A fault so close to the end of what was read may be one only because more follows."""


class ArrayReader:
    """Documents of a JSON array. An element that is no object is told and passed over; where the
    text is no JSON, reading ends: nobody can say where the next document begins."""

    def __init__(self, source: Input) -> None:
        self.source = source
        self._pieces = source.text()
        self._text = ""
        self._at = 0
        self._line = 1

    def rows(self) -> Iterator[tuple[int, dict[str, Any] | HomeportError]]:
        if self._next() != "[":
            raise self._error(
                "does not begin a JSON array",
                action="A file with one document on each line is format='ndjson'.",
            )
        self._at += 1
        if self._next() == "]":
            self._finish()
            return
        while True:
            self._next()
            line = self._line
            element = self._element()
            if type(element) is dict or isinstance(element, HomeportError):
                yield line, element
            else:
                kind = type(element).__name__
                yield line, self.source.error(line, f"holds no object but a {kind}")
            mark = self._next()
            if mark == "]":
                self._finish()
                return
            if mark != ",":
                raise self._error("has no comma behind a document" if mark else "is cut off")
            self._at += 1

    def _finish(self) -> None:
        self._at += 1
        if self._next():
            raise self._error("goes on behind the end of the array")

    def _next(self) -> str:
        """The next character that is no white space, "" at the end of the file."""
        while True:
            text, at = self._text, self._at
            while at < len(text):
                char = text[at]
                if char not in _SPACE:
                    self._at = at
                    return char
                if char == "\n":
                    self._line += 1
                at += 1
            self._at = at
            if not self._more():
                return ""

    def _more(self) -> bool:
        piece = next(self._pieces, "")
        if piece:
            self._text = self._text[self._at :] + piece
            self._at = 0
        return bool(piece)

    def _element(self) -> Any:
        while True:
            try:
                value, end = jsontext.decode_at(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._could_go_on(error) and self._more():
                    self._check_length()
                    continue
                raise self._fault(error) from error
            except jsontext.Refused as error:
                return self._passed_over(error)
            except (ValueError, RecursionError) as error:
                raise self._fault(error) from error
            if end == len(self._text) and self._more():
                continue  # a number may go on
            self._line += self._text.count("\n", self._at, end)
            self._at = end
            return value

    def _could_go_on(self, error: json.JSONDecodeError) -> bool:
        # A text without an end is reported at its beginning.
        return error.pos >= len(self._text) - _NEAR_END or error.msg.startswith("Unterminated")

    def _check_length(self) -> None:
        if len(self._text) > MAX_LINE_BYTES:
            raise self._error(f"begins a document longer than {MAX_LINE_BYTES:,} characters")

    def _passed_over(self, error: jsontext.Refused) -> FormatError:
        """Behind an object that is JSON to other parsers: it says where it ends."""
        wrong = self.source.error(self._line, str(error))
        while True:
            try:
                _, end = json.JSONDecoder().raw_decode(self._text, self._at)
            except json.JSONDecodeError as fault:
                if self._could_go_on(fault) and self._more():
                    self._check_length()
                    continue
                raise self._fault(fault) from fault
            self._line += self._text.count("\n", self._at, end)
            self._at = end
            return wrong

    def _fault(self, error: Exception) -> FormatError:
        if isinstance(error, json.JSONDecodeError):
            line = self._line + self._text.count("\n", self._at, error.pos)
            column = error.pos - self._text.rfind("\n", 0, error.pos)
            return self.source.error(line, f"is no JSON: {error.msg} at character {column}")
        return self._error(jsontext.fault(error))

    def _error(self, what: str, *, action: str | None = None) -> FormatError:
        return self.source.error(self._line, what, action=action)


class ArrayWriter:
    """Writes a JSON array, one document on each line."""

    passes = 1

    def __init__(self, target: Output) -> None:
        self._target = target
        self._before = "[\n"

    def see(self, texts: list[str]) -> None:
        """One pass is enough."""

    def write(self, texts: list[str]) -> None:
        if texts:
            self._target.write((self._before + ",\n".join(texts)).encode())
            self._before = ",\n"

    def end(self) -> None:
        self._target.write(b"[]\n" if self._before == "[\n" else b"\n]\n")
