"""What a queue entry says: the step from one state of its document to another. Pure."""

from __future__ import annotations

from typing import Any

from homeport.core import diff
from homeport.core.outbox import Entry, parsed, raw
from homeport.core.wire import ABSENT, present


def make_entry(before: dict[str, Any] | None, after: dict[str, Any] | None, entry: Entry) -> bool:
    """Let ``entry`` say the step from one state of the document to another; False when there is
    none to say. ``entry.doc`` keeps the text it has when it is still the document."""
    text, entry.doc, entry.was = entry.doc, ABSENT, ABSENT
    entry.set, entry.unset, entry.old = {}, [], {}
    if after is None:
        entry.op = "delete"
        entry.was = ABSENT if before is None else raw(diff.dump(before))
        return before is not None
    if before is not None:
        patch = diff.diff(before, after)
        if patch is not None:
            entry.op = "patch"
            entry.set, entry.unset, entry.old = patch
            return not patch.empty
        entry.was = raw(diff.dump(before))
    entry.op = "put"
    entry.doc = text if present(text) else raw(diff.dump(after))
    return True


def coalesce(entry: Entry, old: dict[str, Any] | None, new: str | None) -> bool:
    """Extend a never-sent entry by the next edit of its document; False when nothing is left.

    old: the document after ``entry``; new: its text after the edit, None = deleted.
    """
    patched = entry.op == "patch"
    before = diff.revert(old or {}, entry.patch) if patched else parsed(entry.was)
    entry.doc = raw(new)
    return make_entry(before, None if new is None else diff.parse(new), entry)
