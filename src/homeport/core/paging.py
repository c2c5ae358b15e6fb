"""Pages by position: the next one begins behind the last row of this one, so writes in between
shift nothing, and a late page costs what the first did."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from homeport.core.arguments import check_whole
from homeport.core.operations import KEY_ORDER, passing, position, unfiltered
from homeport.core.paths import MISSING
from homeport.core.query import Order, QueryValue
from homeport.core.requests import Find, Operation
from homeport.errors import HomeportError, InvalidQuery

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.keys import Key

T = TypeVar("T")


class Page(Generic[T]):
    """Some rows of a query.

    Attributes:
        items: the documents.
        next: a text that stands for the rest, to be given to ``page`` again; None at the end. It
            survives JSON and the program, and says nothing about the condition.
    """

    __slots__ = ("items", "next")

    def __init__(self, items: list[T], next_: str | None) -> None:
        self.items = items
        self.next = next_

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"<Page of {len(self.items)}, {'the last' if self.next is None else 'with a next'}>"


def page(table: Table[T], query: QueryValue, size: int, token: str | None) -> Operation[Page[T]]:
    """The first rows of a query, or those that ``token`` stands for."""
    check_whole(size, "size", least=1)
    if query.limit is not None or query.offset:
        raise InvalidQuery(
            "page() takes the number of its rows itself.", action="Leave limit() and offset() out."
        )
    if not query.order and query.after is None:
        query = query.with_bound_order(KEY_ORDER)
    if token is not None:
        query = query.with_after(_position(token, query.order, table))
    # One row more says whether there is a next page.
    wanted = query.with_limit(size + 1)
    find = Find(table, unfiltered(wanted) if query.predicates else wanted, "entries")

    def finish(entries: list[tuple[Key, str]]) -> Page[T]:
        if query.predicates:
            entries = [entry for entry, _ in passing(table, wanted, entries)]
        items = table.codec.decode_texts([text for _, text in entries[:size]])
        if len(entries) <= size:
            return Page(items, None)
        return Page(items, _token(position(query, *entries[size - 1]), query.order, table))

    return Operation(find, "read", True, (table,), False, finish)


def _order_text(order: Order) -> str:
    return ",".join(f"{'-' if down else ''}{path}" for path, down in order)


def _token(values: tuple[Any, ...], order: Order, table: Table[Any]) -> str:
    plain = [None if value is MISSING else value for value in values]
    body = msgspec.json.encode([table.name, _order_text(order), plain])
    return urlsafe_b64encode(body).decode().rstrip("=")


def _position(token: object, order: Order, table: Table[Any]) -> tuple[Any, ...]:
    try:
        assert isinstance(token, str)
        body = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        name, text, values = msgspec.json.decode(body, type=tuple[str, str, list[Any]])
        table.codec.keys.into(values[-1])
    except (AssertionError, msgspec.MsgspecError, ValueError, IndexError, HomeportError) as error:
        raise InvalidQuery(
            f"{token!r:.60} is no token of a page.", action="Give page() the .next of a page."
        ) from error
    if (name, text) != (table.name, _order_text(order)):
        raise InvalidQuery(
            f"This token belongs to {name} ordered by {text or 'key'!r}, not to {table.name} "
            f"ordered by {_order_text(order) or 'key'!r}.",
            action="Ask for the next page with the order of the first one.",
        )
    return tuple(values)
