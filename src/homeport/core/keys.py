"""One total order of keys, IndexedDB's, and its storable form on every engine.

numbers < strings (by UTF-16 code unit) < booleans < binary < arrays; -0 equals 0. Missing, null,
objects and NaN are no keys: they are not in an index.

An encoded key is a number, a string or bytes, so that a column without a type in SQLite (numbers <
text < blob, text and blob bytewise) sorts it rightly without a collation of our own:

- Text is compared bytewise as UTF-8, which is code point order. It differs from UTF-16 order only
  where U+E000..U+FFFF meets a character beyond U+FFFF, so only strings that hold one of these are
  rewritten: U+E000..U+FFFF gets U+10FFFF in front, and U+10FFFF itself becomes U+10FFFF U+0001,
  which sorts below every rewritten neighbour. All other strings are stored as they are.
- Bytes carry a type byte: 1 boolean, 2 binary, 3 array. The elements of an array delimit
  themselves and compare bytewise.
"""

from __future__ import annotations

import re
from math import isfinite
from struct import Struct
from typing import Any, TypeAlias

from homeport.core.arguments import shown
from homeport.errors import InvalidKey

Key: TypeAlias = "str | int | float | list[Any]"
"""A document key as it is stored: a string (usual), a finite number, or a list of these. What
programs may give for it is in ``core.keyforms``."""

Encoded: TypeAlias = "int | float | str | bytes"

MAX_SAFE_INT = 2**53
"""Integers beyond this differ between engines: JavaScript rounds them."""

MAX_ARRAY_DEPTH = 32
FALSE = b"\x01\x00"
TRUE = b"\x01\x01"

_BINARY = b"\x02"
_ARRAY = b"\x03"
_END = b"\x00"
# Tags of array elements; ascending in the order of the types, all above the end mark.
_NUMBER, _TEXT, _FALSE, _TRUE, _BYTES, _NESTED = (
    b"\x10",
    b"\x20",
    b"\x30",
    b"\x31",
    b"\x40",
    b"\x50",
)
_TOP = "\U0010ffff"
_SPECIAL = re.compile("[\ud800-\uffff\U0010ffff]")
_REWRITE = re.compile("[\ue000-\uffff\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile("\U0010ffff(.)", re.DOTALL)
_DOUBLE = Struct(">Q")
_FLOAT = Struct(">d")
_SIGN = 1 << 63
_ALL = (1 << 64) - 1


def _rewrite(match: re.Match[str]) -> str:
    char = match[0]
    return "\U0010ffff\x01" if char == _TOP else _TOP + char


def _restore(match: re.Match[str]) -> str:
    return _TOP if match[1] == "\x01" else match[1]


def _text(value: str) -> str | None:
    """→ encoded text; None when it holds a lone surrogate, which no UTF-8 can carry."""
    if value.isascii() or _SPECIAL.search(value) is None:
        return value
    if _SURROGATE.search(value) is not None:
        return None
    return _REWRITE.sub(_rewrite, value)


def encode(value: object) -> Encoded | None:
    """The storable form of an index value, or None when the value is no key.

    Integers beyond ±2**53 are no keys: other engines would round them onto their neighbours.
    """
    kind = type(value)
    if kind is str:
        return _text(value)  # type: ignore[arg-type]
    if kind is int:
        return value if -MAX_SAFE_INT <= value <= MAX_SAFE_INT else None  # type: ignore[operator,return-value]
    if kind is float:
        if value == 0:
            return 0.0  # -0 and 0 are one key
        return value if value == value else None  # type: ignore[return-value]  # noqa: PLR0124
    if value is None:
        return None
    if kind is bool:
        return TRUE if value else FALSE
    if isinstance(value, str):
        return _text(str.__str__(value))
    if isinstance(value, int):
        return encode(int(value))
    if isinstance(value, float):
        return encode(float(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _BINARY + bytes(value)
    if isinstance(value, (list, tuple)):
        body = _array(value, 0)
        return None if body is None else _ARRAY + body
    return None


def _array(values: list[Any] | tuple[Any, ...], depth: int) -> bytes | None:
    if depth >= MAX_ARRAY_DEPTH:
        return None
    out = bytearray()
    for value in values:
        if isinstance(value, (list, tuple)):
            inner = _array(value, depth + 1)
            if inner is None:
                return None
            out += _NESTED + inner
            continue
        item = encode(value)
        if item is None:
            return None
        if isinstance(item, str):
            out += _TEXT + item.encode().replace(b"\x00", b"\x00\xff") + _END
        elif isinstance(item, bytes):
            if item[0] == 1:
                out += _TRUE if item == TRUE else _FALSE
            else:
                out += _BYTES + item[1:].replace(b"\x00", b"\x00\xff") + _END
        else:
            bits = _DOUBLE.unpack(_FLOAT.pack(item))[0]
            # Doubles sort as their bits do once negative ones are inverted.
            out += _NUMBER + _DOUBLE.pack(bits ^ (_ALL if bits & _SIGN else _SIGN))
    return bytes(out + _END)


def decode(encoded: Encoded) -> Any:
    """The value of an encoded key. Whole numbers inside arrays come back as int."""
    if isinstance(encoded, str):
        return _ESCAPED.sub(_restore, encoded) if _TOP in encoded else encoded
    if isinstance(encoded, bytes):
        kind = encoded[:1]
        if kind == _ARRAY:
            return _read_array(encoded, 1)[0]
        if kind == _BINARY:
            return encoded[1:]
        return encoded == TRUE
    return encoded


def _read_array(data: bytes, at: int) -> tuple[list[Any], int]:
    out: list[Any] = []
    while (tag := data[at : at + 1]) != _END:
        at += 1
        if tag == _NUMBER:
            bits = _DOUBLE.unpack_from(data, at)[0]
            number = _FLOAT.unpack(_DOUBLE.pack(bits ^ (_SIGN if bits & _SIGN else _ALL)))[0]
            whole = number.is_integer() and -MAX_SAFE_INT <= number <= MAX_SAFE_INT
            out.append(int(number) if whole else number)
            at += 8
        elif tag in (_TEXT, _BYTES):
            end = data.index(_END, at)
            while data[end + 1 : end + 2] == b"\xff":
                end = data.index(_END, end + 2)
            body = data[at:end].replace(b"\x00\xff", b"\x00")
            out.append(decode(body.decode()) if tag == _TEXT else body)
            at = end + 1
        elif tag == _NESTED:
            inner, at = _read_array(data, at)
            out.append(inner)
        else:
            out.append(tag == _TRUE)
    return out, at + 1


def encode_key(value: object) -> Encoded:
    """The storable form of a document key; raises ``InvalidKey`` with the reason."""
    if type(value) is str and value.isascii() and value and "\x00" not in value:
        return value
    reason = _refuse(value, 0)
    if reason is not None:
        raise InvalidKey(f"{shown(value, 80)} cannot be a document key: {reason}.")
    encoded = encode(value)
    assert encoded is not None
    return encoded


def _refuse(value: object, depth: int) -> str | None:
    """Why this is no document key, or None."""
    if isinstance(value, str):
        if not value and depth == 0:
            return "it is empty"
        if "\x00" in value:
            return "it holds the character NUL, which PostgreSQL cannot store"
        return "it holds a lone surrogate" if _SURROGATE.search(value) else None
    if isinstance(value, bool):
        return "a boolean is not one of the key types"
    if isinstance(value, int):
        return None if -MAX_SAFE_INT <= value <= MAX_SAFE_INT else "integers must lie within ±2**53"
    if isinstance(value, float):
        return None if isfinite(value) else "it is not a finite number"
    if isinstance(value, (list, tuple)):
        if depth >= MAX_ARRAY_DEPTH:
            return f"lists nest at most {MAX_ARRAY_DEPTH} deep"
        return next((r for item in value if (r := _refuse(item, depth + 1)) is not None), None)
    if value is None:
        return "it is missing"
    return f"its type is {type(value).__name__}"


def order(encoded: Encoded | None) -> tuple[int, Any]:
    """A Python sort key with the order of the storable form; None sorts after every key."""
    if isinstance(encoded, str):
        return (1, encoded)
    if isinstance(encoded, bytes):
        return (2, encoded)
    return (3, 0) if encoded is None else (0, encoded)


def compare(a: object, b: object) -> int:
    """-1, 0 or 1 by the total order; values that are no keys are equal and come after all keys."""
    left, right = order(encode(a)), order(encode(b))
    return (left > right) - (left < right)


def prefix_range(prefix: str) -> tuple[str, str | None]:
    """Bounds [low, high) in encoded text for strings that start with ``prefix`` (a user's string);
    high None = no end among strings. A lone surrogate is the prefix of nothing: low equals high."""
    low = _text(prefix)
    if low is None:
        return ("", "")
    return (low, _successor(low))


def _successor(text: str) -> str | None:
    """The smallest text above every text that starts with ``text``."""
    if not text:
        return None
    last = ord(text[-1])
    if last == 0x10FFFF:
        return _successor(text[:-1])
    # Surrogates are no characters of UTF-8, so U+D7FF is followed by U+E000.
    return text[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
