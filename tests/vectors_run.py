"""What the runners of tests/vectors share: patterns with names and stars, and what was covered."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).parent / "vectors"
NAME = re.compile(r"\$[a-z]+[0-9]*(?![\w:])")


def load(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


class Names:
    """``"*"`` fits anything; ``"$name"`` stands for what it met first. In what is sent, names
    are replaced by what they stand for."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def fits(self, pattern: Any, value: Any, where: str = "") -> None:
        if pattern == "*":
            return
        if isinstance(pattern, str) and NAME.fullmatch(pattern):
            if pattern in self.known:
                assert value == self.known[pattern], (where, pattern, value, self.known[pattern])
            else:
                assert value is not None, (where, pattern)
                self.known[pattern] = value
        elif isinstance(pattern, dict) and set(pattern) == {"one of"}:
            assert value in pattern["one of"], (where, pattern, value)
        elif isinstance(pattern, dict):
            assert isinstance(value, dict), (where, pattern, value)
            assert pattern.keys() == value.keys(), (where, pattern, value)
            for key, one in pattern.items():
                self.fits(one, value[key], f"{where}.{key}")
        elif isinstance(pattern, list):
            assert isinstance(value, list), (where, pattern, value)
            assert len(pattern) == len(value), (where, pattern, value)
            for n, one in enumerate(pattern):
                self.fits(one, value[n], f"{where}[{n}]")
        else:
            assert type(pattern) is type(value), (where, pattern, value)
            assert pattern == value, (where, pattern, value)

    def filled(self, value: Any) -> Any:
        if isinstance(value, str):
            return NAME.sub(lambda m: str(self.known.get(m[0], m[0])), value)
        if isinstance(value, dict):
            return {key: self.filled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.filled(one) for one in value]
        return value


def fields_of(kind: Any, value: Any, found: set[tuple[str, str]]) -> None:
    """Which fields of which messages occur in ``value``, a message of type ``kind``."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind)
        if isinstance(value, list):  # a message written as an array
            value = dict(zip(kind.__struct_fields__, value, strict=False))
        if isinstance(value, dict):
            for name in kind.__struct_fields__:
                if name in value:
                    found.add((kind.__name__, name))
                    fields_of(hints[name], value[name], found)
    elif origin in (list, tuple) and isinstance(value, list):
        for one in value:
            fields_of(arguments[0], one, found)
    elif origin is dict and isinstance(value, dict):
        for one in value.values():
            fields_of(arguments[1], one, found)
    elif arguments and origin not in (list, tuple, dict):
        for one in arguments:
            fields_of(one, value, found)
