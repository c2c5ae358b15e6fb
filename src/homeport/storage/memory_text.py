"""Full text of the memory store: the rows remember what their words have not seen yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from homeport.core.evaluate import compile_condition
from homeport.core.keys import Encoded
from homeport.core.models import decode_object
from homeport.core.textrequests import Found, Search, Vocabulary
from homeport.storage.text_words import Words, answer

if TYPE_CHECKING:
    from homeport.core.codec import Codec
    from homeport.storage.memory_session import StoredRow

    Stored = dict[Encoded, StoredRow]


class Rows(dict[Encoded, "StoredRow"]):
    """The rows of a collection with full text. Brought up to date when it is asked, because most
    collections in memory are never searched."""

    def __init__(self) -> None:
        super().__init__()
        self.unseen: set[Encoded] = set()
        self.words: Words | None = None

    def __setitem__(self, key: Encoded, row: StoredRow) -> None:
        self.unseen.add(key)
        super().__setitem__(key, row)

    def pop(self, key: Encoded, *default: Any) -> Any:
        self.unseen.add(key)
        return super().pop(key, *default)


def _followed(codec: Codec[Any], rows: Stored) -> Words:
    """The words of the rows as they are now."""
    assert isinstance(rows, Rows)
    if rows.words is None or rows.words.fields != codec.text_paths:
        rows.words = Words(codec.text_paths)
        rows.unseen = set(rows)
    for key in rows.unseen:
        row = rows.get(key)
        if row is None:
            rows.words.drop(key)
        else:
            rows.words.put(key, codec.extras_of_text(row.row[1])[1])
    rows.unseen = set()
    return rows.words


def vocabulary(request: Vocabulary, codec: Codec[Any], rows: Stored) -> list[tuple[str, int]]:
    """The answer of the memory store."""
    known = _followed(codec, rows)
    return known.vocabulary(request.low, request.high, request.limit)


def search(
    request: Search, codec: Codec[Any], rows: Stored, alive: Callable[[StoredRow], StoredRow | None]
) -> Found:
    """The answer of the memory store."""
    known, where = _followed(codec, rows), request.query.where
    test = None if where is None else compile_condition(where)

    def allowed(key: Encoded) -> bool:
        row = rows[key]
        return alive(row) is not None and (test is None or test(decode_object(row.row[1])))

    return answer(request, known, lambda: reversed(rows), allowed, lambda key: rows[key].row[1])
