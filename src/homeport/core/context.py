"""What the plans of one sync transaction share: clock, tables, counters, policies, events."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from homeport.core.codec import Table
from homeport.core.mergetypes import MergeType, type_of
from homeport.core.outbox import (
    META_CLIENT,
    META_OUTBOX,
    META_POLICIES,
    QueueState,
    read_state,
)
from homeport.core.policies import Rule
from homeport.core.requests import Meta, Plan, TxInfo
from homeport.core.subscribing import NOWHERE
from homeport.core.wire import ABSENT, CollectionInfo

_policies = msgspec.json.Decoder(dict[str, CollectionInfo])

Tables = Mapping[str, Table[Any]]


class Event(NamedTuple):
    """Something an application may want to know. kind: ``committed``, ``rejected``, ``conflict``,
    ``resolved``, ``depends``, ``invisible``, ``integrity`` for documents; see
    ``replication`` for the others."""

    kind: str
    at_ms: int
    collection: str = ""
    key: str = ""
    detail: str = ""


class Moved(NamedTuple):
    """What the server has of a document now; ``body`` absent = gone."""

    collection: str
    key: str
    body: msgspec.Raw = ABSENT
    token: str | None = None
    bucket: str | None = None


class Context:
    """What the plans of one transaction share."""

    def __init__(
        self,
        tx: TxInfo,
        tables: Tables,
        state: QueueState,
        client: str,
        policies: dict[str, CollectionInfo],
    ) -> None:
        self.tx = tx
        self.tables = tables
        self.state = state
        self.client = client
        self.policies = policies
        self.events: list[Event] = []
        self.elsewhere = NOWHERE
        self.keep_edits = False
        """Edits win over what looks like a delete."""
        self.suspects: set[tuple[str, str, str]] = set()
        """(collection, index, key): looked at when all is written (``core.integrity``)."""

    def rule(self, collection: str) -> Rule:
        """The policy is the server's; before it said one, the declaration's."""
        table = self.tables[collection]
        declared = table.collection.sync
        info = self.policies.get(collection)
        if info is not None:
            policy, deletes = info.policy, info.deletes
        elif declared is not None:
            policy, deletes = declared.policy, declared.deletes
        else:
            policy, deletes = "merge", "delete-wins"
        types: Mapping[str, MergeType] = {} if declared is None else declared.fields
        if info is not None:
            types = _types(tuple(sorted(info.fields.items())))
        if self.keep_edits:
            deletes = "edit-wins"
        resolver = None
        if declared is not None and declared.policy == policy:
            resolver = declared.resolver
        return Rule(policy, deletes, table.collection.key, resolver, types)

    def merge_rule(self, collection: str) -> Rule:
        """For what was written on top of a conflict that a person has settled."""
        rule = self.rule(collection)
        return Rule("merge", "edit-wins", rule.key_field, types=rule.types)

    def event(self, kind: str, collection: str = "", key: str = "", detail: str = "") -> None:
        self.events.append(Event(kind, self.tx.stamp_ms, collection, key, detail))


@lru_cache(256)
def _types(specs: tuple[tuple[str, str], ...]) -> Mapping[str, MergeType]:
    """What the server announced, without the types that this program does not have."""
    found = {path: type_of(spec) for path, spec in specs}
    return {path: kind for path, kind in found.items() if kind is not None}


def read_policies(text: str | None) -> dict[str, CollectionInfo]:
    return {} if text is None else _policies.decode(text)


def open_context(tables: Tables) -> Plan[Context]:
    tx: TxInfo = yield Meta("tx")
    state = read_state((yield Meta(META_OUTBOX)))
    client = yield Meta(META_CLIENT)
    policies = read_policies((yield Meta(META_POLICIES)))
    return Context(tx, tables, state, client or "", policies)
