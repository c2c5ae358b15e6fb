"""Choosing between two versions of a document by field, and taking a settlement back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from homeport.core import diff
from homeport.core.diff import Document, get, same
from homeport.errors import UsageError

MINE: Final = "mine"
THEIRS: Final = "theirs"
Side: TypeAlias = Literal["mine", "theirs"]
State: TypeAlias = "Document | None"


def contested(base: State, local: State, remote: State) -> list[str]:
    """The paths that both sides changed, to something else; empty when one side deleted the
    document, or where no path can name the difference."""
    if local is None or remote is None:
        return []
    patch = diff.diff(base or {}, local)
    if patch is None:
        return []
    return [path for path in patch.paths if not _agreed(path, base or {}, local, remote)]


def by_field(base: State, local: State, remote: State, fields: Mapping[str, Side]) -> Document:
    """One document of both: the named fields from the named side; of the others, what only one side
    changed.

    Raises:
        UsageError: a field is not named that both changed, one is named that nobody changed, or one
            side deleted the document.
    """
    if local is None or remote is None:
        raise UsageError(
            "One side deleted the document, so there are no fields to choose from.",
            action="Choose 'mine' or 'theirs'.",
        )
    origin = base or {}
    mine, theirs = diff.diff(origin, local), diff.diff(origin, remote)
    if mine is None or theirs is None:
        raise UsageError(
            "The two versions differ in a field whose name holds a dot.",
            action="Give the whole document.",
        )
    open_ones = [path for path in contested(base, local, remote) if path not in fields]
    if open_ones:
        raise UsageError(
            f"Both sides changed {', '.join(map(repr, open_ones))}.",
            action="Say 'mine' or 'theirs' for each of them.",
        )
    changed = {*mine.paths, *theirs.paths}
    for path, side in fields.items():
        if path not in changed:
            raise UsageError(
                f"Nobody changed the field {path!r}.",
                action=f"The changed ones are {', '.join(sorted(changed))}.",
            )
        if side not in (MINE, THEIRS):
            raise UsageError(f"A field is 'mine' or 'theirs', not {side!r}.")
    result = remote
    for path in sorted(changed):
        side = fields.get(path, MINE if path in mine.paths else THEIRS)
        result = diff.put_at(result, path, get(local if side == MINE else remote, path))
    return result


def taken_back(current: State, result: State, wanted: State, fields: list[str], ref: str) -> State:
    """The document with the version that lost: in the fields that were settled, or whole.

    What was changed after the settlement stays. Raises ``UsageError`` when that is the very thing
    that would be taken back.
    """
    paths = list(dict.fromkeys(path.partition("[")[0] for path in fields))
    if current is not None and result is not None and wanted is not None:
        patch = diff.diff(result, wanted)
        if not paths and patch is not None:
            paths = patch.paths
        if paths and all(same(get(current, path), get(result, path)) for path in paths):
            for path in paths:
                current = diff.put_at(current, path, get(wanted, path))
            return current
    if not same(current, result):
        raise UsageError(
            f"{ref} was changed again since this was settled.",
            action="Look at the record (base, local, remote, result) and write what you want.",
        )
    return wanted


def _agreed(path: str, base: Document, local: Document, remote: Document) -> bool:
    now = get(remote, path)
    if same(now, get(local, path)):
        return True
    if not same(now, get(base, path)):
        return False
    around = path.rpartition(".")[0]
    return not around or isinstance(get(remote, around), dict)
