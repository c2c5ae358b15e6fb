"""Partial replication: the buckets of each collection that this file asks for.

A collection that is not named is replicated as far as the user may see it. Rows of other buckets
are here only while changes of them wait: these are pushed like all others, and then the row goes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

import msgspec

from homeport.core.outbox import META_HOLDS, META_SUBSCRIBED, write_json
from homeport.core.requests import Meta, Plan, SetMeta, Write
from homeport.core.wire import Hold

Subscribed: TypeAlias = "dict[str, list[str]]"

_holds = msgspec.json.Decoder(dict[str, Hold])
_subscribed = msgspec.json.Decoder(dict[str, list[str]])


def read_subscribed() -> Plan[Subscribed]:
    """Collection → buckets."""
    text = yield Meta(META_SUBSCRIBED)
    return {} if text is None else _subscribed.decode(text)


def subscribe(name: str, buckets: Iterable[str] | None) -> Plan[None]:
    """Ask for more buckets; None = for everything again. A write operation."""
    known = yield from read_subscribed()
    if buckets is None:
        known.pop(name, None)
    else:
        known[name] = sorted({*known.get(name, ()), *buckets})
    yield Write([SetMeta(META_SUBSCRIBED, write_json(known))])


def unsubscribe(name: str, buckets: Iterable[str] | None) -> Plan[None]:
    """Ask for fewer buckets; None = for nothing of this collection. A write operation."""
    known = yield from read_subscribed()
    before = known.get(name)
    if before is None:
        # Everything so far: what the file holds are the names that there are.
        text = yield Meta(META_HOLDS)
        holds = {} if text is None else _holds.decode(text)
        before = holds[name].buckets if name in holds else []
    gone = set(before if buckets is None else buckets)
    known[name] = sorted(set(before) - gone)
    yield Write([SetMeta(META_SUBSCRIBED, write_json(known))])


class Elsewhere:
    """What this file did not ask for, by the server's word about what it holds now."""

    def __init__(
        self, subscribed: Mapping[str, Collection[str]], holds: Mapping[str, Hold]
    ) -> None:
        self._held = {
            name: frozenset(holds[name].buckets) if name in holds else frozenset[str]()
            for name in subscribed
        }
        self._asked = {name: frozenset(buckets) for name, buckets in subscribed.items()}

    def __call__(self, name: str, bucket: str | None) -> bool:
        """Whether rows of this bucket are not wanted here."""
        held = self._held.get(name)
        return held is not None and bucket is not None and bucket not in held

    def given_up(self, name: str, bucket: str | None) -> bool:
        """Whether it is the user's wish that the bucket is not here."""
        asked = self._asked.get(name)
        return asked is not None and bucket is not None and bucket not in asked


NOWHERE = Elsewhere({}, {})
