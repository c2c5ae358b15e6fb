"""What crosses the border to ``indexeddb.js``: one string each way for a step of a transaction.

Fields are joined by U+001E, which no JSON text can hold. The first field is JSON: a list of
commands there, the list of their answers back. The others are JSON texts of documents, as stored.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from homeport.core.keys import MAX_SAFE_INT, Encoded, decode, encode
from homeport.core.words import GAP
from homeport.core.words import words as words_of

if TYPE_CHECKING:
    from homeport.core.codec import Extras, Row

Steps: TypeAlias = Generator[str, str, Any]
"""A part of a transaction: yields steps, is sent their results."""

Command: TypeAlias = dict[str, Any]

SEPARATOR: Final = "\x1e"
MISSING: Final[list[Any]] = []
"""In an index column of a document without the field: it sorts behind every key of ours."""

TOP: Final[list[Any]] = [[]]
"""Behind everything, ``MISSING`` included."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Any]).decode
_INFINITIES: Final = {float("inf"): msgspec.Raw(b"1e999"), float("-inf"): msgspec.Raw(b"-1e999")}


def ask(*commands: Command, texts: Sequence[str] = ()) -> Generator[str, str, list[Any]]:
    """One step → the answer of each command."""
    answers, _ = yield from ask_texts(*commands, texts=texts)
    return answers


def ask_texts(
    *commands: Command, texts: Sequence[str] = ()
) -> Generator[str, str, tuple[list[Any], list[str]]]:
    """One step → the answer of each command, and the texts that came with them."""
    request = _encode(commands).decode()
    found = yield SEPARATOR.join((request, *texts)) if texts else request
    answers, *out = found.split(SEPARATOR)
    return _decode(answers), out


def ask_packed(command: Command) -> Generator[str, Any, bytes]:
    """A step of one command that packs what it has found."""
    found: bytes = yield _encode((command,)).decode()
    return found


def to_wire(key: Encoded | None) -> Any:
    """An encoded key (None = the field is missing) as ``indexeddb.js`` reads it."""
    if key is None:
        return MISSING
    if isinstance(key, str):
        return key if key.isascii() else decode(key)
    if isinstance(key, bytes):
        # The end of all texts is the empty binary; a zero byte is as low among what we store, and
        # an engine that takes an empty buffer for a detached one accepts it.
        return {"b": b64encode(key or b"\x00").decode()}
    if type(key) is float and key in _INFINITIES:
        return {"x": _INFINITIES[key]}
    return key


def public_of(key: Any) -> Any:
    """A document key from ``indexeddb.js`` as users know it."""
    if isinstance(key, dict):
        return decode(b64decode(key["b"]))
    if type(key) is int and not -MAX_SAFE_INT <= key <= MAX_SAFE_INT:
        return float(key)  # JavaScript writes large doubles without a point
    return key


def encoded_of(key: Any) -> Encoded:
    """A document key from ``indexeddb.js`` in its storable form."""
    found = b64decode(key["b"]) if isinstance(key, dict) else encode(public_of(key))
    assert found is not None
    return found


def prefix_end(prefix: str) -> Any:
    """The first text behind all that begin with ``prefix``, in the order of UTF-16; the end of all
    texts for the prefix that has none."""
    raw = prefix.encode("utf-16-le", "surrogatepass")
    units = [raw[n] | raw[n + 1] << 8 for n in range(0, len(raw), 2)]
    while units and units[-1] == 0xFFFF:
        units.pop()
    if not units:
        return to_wire(b"")
    units[-1] += 1
    return {"u": units}


def wire_row(row: Row, extras: Extras | None, *, words: bool = True) -> list[Any]:
    """A row for the command ``put``: its key, columns, multi-entry values and words, if wanted."""
    if extras is None:
        return [to_wire(row[0]), _wires(row[2:]), [], []]
    entries = [_wires(found) for found in extras[0]]
    texts = extras[1]
    folded = [sorted({*words_of(text)} - {GAP}) for text in texts] if texts and words else []
    return [to_wire(row[0]), _wires(row[2:]), entries, folded]


def _wires(values: Iterable[Any]) -> list[Any]:
    """``to_wire`` of each; what most of them are is not asked by a call."""
    return [
        one if type(one) is int or (type(one) is str and one.isascii()) else to_wire(one)
        for one in values
    ]
