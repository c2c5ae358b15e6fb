"""Is the copy the same as the original? Compared by sums, without sending the documents (R13).

Both sides sort the keys of a collection into 256 slots (first byte of SHA-256 of the key) and add
up one number for each (key, version token) in a slot. Equal sums = equal slots. Of a slot that
differs the server sends all rows again, in an ordinary cut; none of this touches the queue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from homeport.core.codec import Table
from homeport.core.outbox import BASE, META_CURSOR, META_STAGED, Base, read_base
from homeport.core.query import EMPTY, Compare
from homeport.core.requests import Find, Meta, Plan, RowInfo
from homeport.core.versions import plain_token

SLOTS: Final = 256
CHUNK: Final = 500
REPAIRED_AT_ONCE: Final = 32
"""Slots that are fetched again in one cut."""

Sums = dict[int, str]
"""Slot → sum, in decimal; slots without a row are left out."""


class VerifyReport(msgspec.Struct, frozen=True):
    """What a comparison with the server found.

    Attributes:
        at_ms: when, on the clock of this device.
        collections: how many were compared.
        documents: how many documents of this device.
        different: slots (of 256 a collection) whose sums differed.
        repaired: documents that were missing, too many, or of another version, and are right now.
        false_alarms: slots that differed although every document in them was right.
        remaining: slots that differ still: rows that no device can read, or a server that changes
            faster than it can be compared.
    """

    at_ms: int
    collections: int = 0
    documents: int = 0
    different: int = 0
    repaired: int = 0
    false_alarms: int = 0
    remaining: int = 0


def slot_of(key: str) -> int:
    """The slot of a key."""
    return hashlib.sha256(key.encode()).digest()[0]


def weight(key: str, token: str) -> int:
    """60 bits of MD5: a sum that guards against mistakes, not against forgers."""
    text = f"{key}\n{token}".encode()
    return int(hashlib.md5(text, usedforsecurity=False).hexdigest()[:15], 16)


def sums_of(tokens: Mapping[str, str]) -> Sums:
    """The sums of a collection, from its keys and tokens."""
    totals: dict[int, int] = {}
    for key, token in tokens.items():
        slot = slot_of(key)
        totals[slot] = totals.get(slot, 0) + weight(key, plain_token(token) or "")
    return {slot: str(total) for slot, total in totals.items()}


def different(mine: Mapping[int, str], theirs: Mapping[int, str]) -> list[int]:
    """Slots whose sums are not the same."""
    return [slot for slot in range(SLOTS) if mine.get(slot) != theirs.get(slot)]


def place() -> Plan[tuple[Any, Any]]:
    """Where the file stands with the server; a comparison is void when this moves meanwhile."""
    return ((yield Meta(META_CURSOR)), (yield Meta(META_STAGED)))


def keys_of(table: Table[Any]) -> Plan[list[Any]]:
    keys: list[Any] = yield Find(table, EMPTY, "keys")
    return keys


def tokens_of(table: Table[Any], keys: Iterable[Any]) -> Plan[dict[str, str]]:
    """The server's versions of some documents; those that it never had are left out."""
    found: dict[str, str] = {}
    for key in keys:
        info: RowInfo | None = yield Meta("row", table, key)
        if info is not None and info.token is not None and isinstance(key, str):
            found[key] = info.token
    return found


def queued_tokens(table: Table[Any]) -> Plan[list[Base]]:
    """Bases of documents with queued changes: there the row is not what the server has."""
    where = Compare("collection", "==", table.name)
    texts: list[str] = yield Find(BASE, EMPTY.and_where(where), "texts")
    return [base for base in map(read_base, texts) if base.known]


def with_bases(tokens: dict[str, str], bases: Iterable[Base]) -> dict[str, str]:
    """What the server has of each document, as far as this file knows."""
    for base in bases:
        if base.token is None:
            tokens.pop(base.key, None)
        else:
            tokens[base.key] = base.token
    return tokens
