"""The texts of a simple store, by name.

``docs/COLLECTION/KEY``: a document with its metadata, or the mark that it was deleted. KEY is the
JSON text of the key, so that two keys have one name exactly when they are the same. ``meta/NAME``:
a named text. ``collections``: what the declarations were.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.core.keys import MAX_SAFE_INT, Encoded, decode
from homeport.core.requests import RowInfo

DOCS: Final = "docs/"
META: Final = "meta/"
COLLECTIONS: Final = "collections"


class Declared(msgspec.Struct):
    """What is known of a collection: the field of its key, and the models that have written."""

    key: str
    models: list[str] = []


class Item(msgspec.Struct, omit_defaults=True):
    """A document: revision, created and modified (ms since 1970), expiry, the text itself."""

    r: int
    c: int
    m: int
    d: msgspec.Raw
    e: int | None = None


_encode = msgspec.json.Encoder().encode
_item = msgspec.json.Decoder(Item).decode
declared_of = msgspec.json.Decoder(dict[str, Declared]).decode
text_of = msgspec.json.Decoder(str).decode


def json_of(value: Any) -> str:
    return _encode(value).decode()


def doc_name(collection: str, encoded: Encoded) -> str:
    """The name of a document's item."""
    key = decode(encoded)
    if isinstance(key, float) and key.is_integer() and abs(key) <= MAX_SAFE_INT:
        key = int(key)  # 1.0 and 1 are one key
    return f"{DOCS}{collection}/{json_of(key)}"


def doc_text(text: str, info: RowInfo) -> str:
    """The item of a document."""
    expires = "" if info.expires_ms is None else f',"e":{info.expires_ms}'
    times = f'"r":{info.revision},"c":{info.created_ms},"m":{info.modified_ms}{expires}'
    return f'{{{times},"d":{text}}}'


def gone_text(stamp_ms: int) -> str:
    """The item of a document that was deleted, where that has to be remembered."""
    return f'{{"x":{stamp_ms}}}'


def is_gone(text: str) -> bool:
    """Is it such a mark?"""
    return text.startswith('{"x":')


def read_doc(text: str) -> tuple[str, RowInfo]:
    """→ the text of the document, and its metadata. Raises ``msgspec.DecodeError``."""
    item = _item(text)
    document = bytes(item.d).decode()
    return document, RowInfo(item.r, item.c, item.m, item.e, None, None, document)
