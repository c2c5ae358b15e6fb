"""Document keys on their way in and out of SQLite."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from homeport.core.keys import Encoded, Key, decode

_encode_json = msgspec.json.Encoder().encode


def json_list(keys: list[Encoded]) -> str | None:
    """Encoded keys as a JSON array; None when one of them has no JSON form."""
    for key in keys:
        if type(key) is bytes:
            return None
    return _encode_json(keys).decode()


def public(key: Encoded) -> Key:
    """The document key of an encoded one."""
    if type(key) is str and key.isascii():
        return key
    found: Key = decode(key)
    return found


def publics(keys: Sequence[Encoded]) -> list[Key]:
    """``public`` of many; the usual keys, texts without rewriting, are recognised as a whole."""
    try:
        if "".join(keys).isascii():  # type: ignore[arg-type]
            return [*keys]  # type: ignore[list-item]
    except TypeError:
        pass  # not all are texts
    return [public(key) for key in keys]
