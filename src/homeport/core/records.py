"""Resolution records: every settlement that nobody was asked about, written down for both sides.

A record is a document of ``_resolutions``, which syncs like any other. It travels in the unit of
the change it speaks of, so the server has both or neither; where the change is gone (the remote
side won), or the two would be too large together, it is a unit of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from homeport.core import diff
from homeport.core.merge import Clash, Doc, Group, Outcome
from homeport.core.outbox import Entry, QueueState, encoder, parsed, raw, ref_of
from homeport.core.wire import (
    MAX_BATCH_BYTES,
    MAX_BATCH_CHANGES,
    MAX_DOCUMENT_BYTES,
    RESOLUTIONS,
)


class Added(NamedTuple):
    """New entries, and queued ones whose record was brought up to date."""

    entries: list[Entry]
    changed: list[Entry]


def _known(group: Group, doc: Doc) -> Entry | None:
    """The record of this document that travels in the unit already."""
    for entry in group.entries:
        if entry.collection == RESOLUTIONS and entry.op == "put":
            record = parsed(entry.doc)
            if (record["collection"], record["key"]) == (doc.collection, doc.key):
                return entry
    return None


class Records:
    """Makes the entries of the records of one transaction."""

    def __init__(self, client: str, stamp_ms: int, state: QueueState) -> None:
        self.client = client
        self.stamp_ms = stamp_ms
        self.state = state

    def make(self, outcome: Outcome, docs: Mapping[str, Doc]) -> Added:
        """Entries for all that the rebase logged; changes the unit of the entries they join."""
        entries: list[Entry] = []
        changed: list[Entry] = []
        for group, clash in outcome.logged:
            doc = docs[clash.ref]
            if group is not None and (known := _known(group, doc)) is not None:
                # The ground moved again before the first settlement was sent: one record, the
                # newest remote side (older ones were not overwritten by this device).
                text = self._text(known.key, clash, doc)
                known.doc = raw(text)
                changed.append(known)
                continue
            entry = self._entry(clash, doc)
            if group is not None and self._fits(group, entry):
                unit = group.entries[0].unit or f"{self.client}-{group.entries[0].id}"
                for member in group.entries:
                    member.unit = unit
                entry.unit, entry.layer = unit, group.entries[0].layer
                group.entries.append(entry)
            entries.append(entry)
        return Added(entries, changed)

    def entry_of(self, clash: Clash) -> Entry:
        """The record of a choice that a person made."""
        collection, _, key = clash.ref.partition("/")
        return self._entry(clash, Doc(collection, key, None, None))

    def _entry(self, clash: Clash, doc: Doc) -> Entry:
        number = self.state.next
        self.state.next += 1
        key = f"{self.client}-{self.stamp_ms:x}-{number}"
        text = self._text(key, clash, doc)
        return Entry(
            number, ref_of(RESOLUTIONS, key), RESOLUTIONS, key, "put", self.stamp_ms, doc=raw(text)
        )

    def _text(self, key: str, clash: Clash, doc: Doc) -> str:
        return record_text(key, clash, doc, self.stamp_ms, self.client)

    def _fits(self, group: Group, entry: Entry) -> bool:
        if len(group.entries) >= MAX_BATCH_CHANGES:
            return False
        size = sum(len(encoder.encode(member)) for member in (*group.entries, entry))
        return size <= MAX_BATCH_BYTES


def record_text(key: str, clash: Clash, doc: Doc, at_ms: int, client: str) -> str:
    """The document of one record; bodies are left out where it would be too large."""
    record: dict[str, Any] = {
        "id": key,
        "collection": doc.collection,
        "key": doc.key,
        "bucket": doc.bucket,
        "policy": clash.policy,
        "winner": clash.winner,
        "fields": clash.fields,
        "base": clash.base,
        "local": clash.local,
        "remote": clash.remote,
        "result": clash.result,
        "at_ms": at_ms,
        "client": client,
    }
    # The losing body goes last: it is in the record alone.
    for name in ("result", "base", "remote" if clash.winner == "remote" else "local"):
        text = diff.dump(record)
        if len(text.encode()) <= MAX_DOCUMENT_BYTES:
            return text
        record[name] = None
        record["cut"] = [*record.get("cut", []), name]
    text = diff.dump(record)
    if len(text.encode()) <= MAX_DOCUMENT_BYTES:
        return text
    return diff.dump({**record, "local": None, "remote": None, "cut": ["all bodies"]})
