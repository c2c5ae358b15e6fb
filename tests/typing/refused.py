"""Checked by mypy (strict) and pyright, never run: what type checkers must refuse.

Each ignored line must stay an error: an unused "ignore" is one too.
"""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime
from typing import Any, assert_type
from uuid import UUID

import msgspec

import homeport as hp


class Well(msgspec.Struct):
    id: str
    depth_m: float


class Device(msgspec.Struct):
    id: UUID
    name: str = ""


class Kind(enum.Enum):
    GAUGE = "gauge"


wells = hp.Collection("wells", Well)
devices = hp.Collection("devices", Device)


def deepen(well: Well) -> Well:
    return well


def wrong(well: Well) -> int:
    return 1


async def later(well: Well) -> Well:
    return well


async def move(tx: hp.Tx, key: str, by: float) -> float:
    await tx[wells].put({"id": "a"})  # type: ignore[arg-type]
    return by


def report(misfit: hp.Misfit) -> None:
    assert_type(misfit.key, Any)
    assert_type(misfit.path, str)
    assert_type(misfit.document, dict[str, Any])


async def documents(db: hp.AsyncDatabase) -> None:
    w = db[wells]
    await w.put({"id": "a"})  # type: ignore[arg-type]
    await w.add(Device(UUID(int=1)))  # type: ignore[arg-type]
    await w.put_many([Device(UUID(int=1))])  # type: ignore[list-item]
    await w.load([{"id": "a"}])  # type: ignore[list-item]
    await w.load([], mode="replace")  # type: ignore[arg-type]
    await w.update("a", wrong)  # type: ignore[arg-type]
    await w.update("a", later)  # type: ignore[arg-type]
    await w.update("a", deepen, default=None)  # type: ignore[arg-type]
    (await w.get("a")).depth_m  # type: ignore[union-attr]
    w.get("a").depth_m  # type: ignore[attr-defined]
    (await w.one()).depth  # type: ignore[attr-defined]
    await db["wells"].get("a")
    db[5]  # type: ignore[call-overload]


async def keys(db: hp.AsyncDatabase) -> None:
    d = db[devices]
    for key in (UUID(int=1), "a", 1, 1.5, ["a", 1], ("a", 1), date(2026, 1, 1), datetime.now(UTC)):
        await d.get(key)
    await d.get(Kind.GAUGE)
    await d.get(None)  # type: ignore[call-overload]
    await d.get(b"a")  # type: ignore[call-overload]
    await d.get({"id": 1})  # type: ignore[call-overload]
    await d.delete(None)  # type: ignore[arg-type]
    await d.patch(b"a", name="x")  # type: ignore[arg-type]
    await d.meta({})  # type: ignore[arg-type]
    await d.get_many([None])  # type: ignore[list-item]
    await d.delete_many(5)  # type: ignore[arg-type]


async def queries(db: hp.AsyncDatabase) -> None:
    w = db[wells]
    query = w.where(hp.F.depth_m > 1)
    assert_type(query, hp.AsyncQuery[Well])
    assert_type(await w.fitting(report).all(), list[Well])
    assert_type(await query.misfits(), list[hp.Misfit])
    w.fitting(5)  # type: ignore[arg-type]
    w.fitting(deepen)  # type: ignore[arg-type]
    query.limit("5")  # type: ignore[arg-type]
    query.offset(None)  # type: ignore[arg-type]
    query.filter(5)  # type: ignore[arg-type]
    await query.update(wrong)  # type: ignore[arg-type]
    await w.aggregate(n=5)  # type: ignore[arg-type]
    w.include(cities=5)  # type: ignore[arg-type]
    for _ in query:  # type: ignore[attr-defined]
        pass
    for _ in query.live():  # type: ignore[attr-defined]
        pass
    async for change in query.live():
        change.rows[0].depth  # type: ignore[attr-defined]
    query.subscribe(5)  # type: ignore[arg-type]
    query.all()[0]  # type: ignore[index]


async def databases(db: hp.AsyncDatabase) -> None:
    await db.run(move, "a", "far")  # type: ignore[arg-type]
    await db.run(move)  # type: ignore[call-arg]
    await db.run(5, "a")  # type: ignore[arg-type]
    db.on_commit(deepen)  # type: ignore[arg-type]
    async with db:
        pass
    with db:  # type: ignore[attr-defined]
        pass
    hp.open_async("a.db", collections=[Well])  # type: ignore[list-item]
    hp.open_async("a.db", collections=[wells], durability="some")  # type: ignore[arg-type]
    with hp.open_async("a.db", collections=[wells]):  # type: ignore[attr-defined]
        pass
    hp.Collection("c", Well, expires_at=5)  # type: ignore[call-overload]
    hp.Collection("c", "Well")  # type: ignore[call-overload]
