"""Compare this file with the server, and fetch again what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from homeport.core.outbox import META_VERIFIED, write_json
from homeport.core.requests import Meta, Plan, SetMeta, Write
from homeport.core.verify import (
    CHUNK,
    REPAIRED_AT_ONCE,
    VerifyReport,
    different,
    keys_of,
    place,
    queued_tokens,
    slot_of,
    sums_of,
    tokens_of,
    with_bases,
)

if TYPE_CHECKING:
    from homeport.transport.rounds import Rounds

TRIES = 5
"""So often a comparison begins again because something was pushed or pulled meanwhile."""


async def compare(rounds: Rounds, now_ms: int) -> VerifyReport:
    """Bring the file up to date, compare all synced collections, repair what differs."""
    found, documents = await _differences(rounds)
    before = found
    repaired = false_alarms = 0
    todo = [(name, slot) for name, slots in found.items() for slot in slots]
    for start in range(0, len(todo), REPAIRED_AT_ONCE):
        some: dict[str, list[int]] = {}
        for name, slot in todo[start : start + REPAIRED_AT_ONCE]:
            some.setdefault(name, []).append(slot)
        right = {name: await _tokens(rounds, name) for name in some}
        while not await rounds.exchange(pull=True, repair=some):
            pass
        for name, slots in some.items():
            wrong = _changed(right[name], await _tokens(rounds, name))
            repaired += len(wrong)
            false_alarms += len(set(slots) - {slot_of(key) for key in wrong})
    if todo:
        found, documents = await _differences(rounds)
    report = VerifyReport(
        at_ms=now_ms,
        collections=len(rounds.tables),
        documents=documents,
        different=sum(map(len, before.values())),
        repaired=repaired,
        false_alarms=false_alarms,
        remaining=sum(map(len, found.values())) if todo else 0,
    )
    await rounds.run(_save(report))
    return report


async def _differences(rounds: Rounds) -> tuple[dict[str, list[int]], int]:
    names = sorted(rounds.tables)
    mine: dict[str, dict[int, str]] = {}
    theirs: Mapping[str, Mapping[int, str]] = {}
    documents = 0
    for _ in range(TRIES):
        while not await rounds.exchange(pull=True, verify=names):
            pass
        theirs = rounds.sums
        stood = await rounds.read(place())
        documents = 0
        for name in names:
            tokens = await _tokens(rounds, name)
            documents += len(tokens)
            mine[name] = sums_of(tokens)
        if await rounds.read(place()) == stood:
            break
    # A collection that the server does not have has no sums.
    found = {name: different(mine[name], theirs[name]) for name in names if name in theirs}
    return {name: slots for name, slots in found.items() if slots}, documents


async def _tokens(rounds: Rounds, name: str) -> dict[str, str]:
    """Read in short steps: writers wait for none of them."""
    table = rounds.tables[name]
    keys = await rounds.read(keys_of(table))
    tokens: dict[str, str] = {}
    for start in range(0, len(keys), CHUNK):
        tokens.update(await rounds.read(tokens_of(table, keys[start : start + CHUNK])))
    return with_bases(tokens, await rounds.read(queued_tokens(table)))


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [key for key in {*before, *after} if before.get(key) != after.get(key)]


def load_verified() -> Plan[VerifyReport | None]:
    """The last report of this file."""
    text = yield Meta(META_VERIFIED)
    return None if text is None else msgspec.json.decode(text, type=VerifyReport)


def _save(report: VerifyReport) -> Plan[None]:
    yield Write([SetMeta(META_VERIFIED, write_json(report))])
