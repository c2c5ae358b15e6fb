"""NDJSON: one document on each line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from homeport.core import jsontext
from homeport.errors import HomeportError
from homeport.interchange.files import Input, Output


class LinesReader:
    """Documents of an NDJSON file. A line that is none is told and passed over."""

    def __init__(self, source: Input) -> None:
        self.source = source

    def rows(self) -> Iterator[tuple[int, dict[str, Any] | HomeportError]]:
        decode, error = jsontext.decode, self.source.error
        for number, line in self.source.lines():
            if not isinstance(line, str):
                yield number, line
                continue
            if line.isspace():
                continue
            try:
                document = decode(line)
            except (ValueError, RecursionError) as wrong:
                yield number, error(number, jsontext.fault(wrong))
                continue
            if type(document) is dict:
                yield number, document
            else:
                kind = type(document).__name__
                yield number, error(number, f"holds no object but a {kind}")


class LinesWriter:
    """Writes an NDJSON file."""

    passes = 1

    def __init__(self, target: Output) -> None:
        self._target = target

    def see(self, texts: list[str]) -> None:
        """One pass is enough."""

    def write(self, texts: list[str]) -> None:
        self._target.write("".join([f"{text}\n" for text in texts]).encode())

    def end(self) -> None:
        """Nothing follows the last line."""
