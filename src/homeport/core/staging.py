"""The pages of an unfinished cut, kept in the file until the last one is there."""

from __future__ import annotations

import msgspec

from homeport.core.codec import Row
from homeport.core.outbox import META_STAGED, STAGED, write_json
from homeport.core.requests import Get, Plan, Put, SetMeta, Write
from homeport.core.wire import Reply


class Staged(msgspec.Struct):
    """An unfinished cut: how to ask on, and how far it is."""

    position: str
    pages: int
    rows: int
    total: int | None


class _Page(msgspec.Struct):
    id: int
    page: Reply


_staged = msgspec.json.Decoder(Staged)
_page = msgspec.json.Decoder(_Page)


def read_staged(text: str | None) -> Staged | None:
    return None if text is None else _staged.decode(text)


def staged_page(number: int) -> Plan[Reply]:
    """A page, from 1."""
    text = yield Get(STAGED, number)
    return _page.decode(text).page


def stage(reply: Reply, position: str, before: Staged | None) -> Plan[None]:
    """Keep a page that is not the last."""
    pages = 1 if before is None else before.pages + 1
    rows = len(reply.rows) + (0 if before is None else before.rows)
    total = reply.total
    if total is None and before is not None:
        total = before.total
    row: Row = (pages, write_json(_Page(pages, reply)))
    staged = Staged(position, pages, rows, total)
    yield Write([Put(STAGED, [row]), SetMeta(META_STAGED, write_json(staged))])
