"""Checked by mypy (strict) and pyright, never run: what type checkers must infer from the API."""

from __future__ import annotations

from typing import Any, TypedDict, assert_type

import msgspec

import homeport as hp


class Well(msgspec.Struct):
    id: str
    depth_m: float


class City(TypedDict):
    id: str
    population: int


wells = hp.Collection("wells", Well, indexes=["depth_m", ("id", "depth_m"), hp.Unique("id")])
cities = hp.Collection("cities", City)
plain = hp.Collection("plain")

assert_type(wells, hp.Collection[Well])
assert_type(plain, hp.Collection[dict[str, Any]])


def deepen(well: Well) -> Well:
    return well


def wrong(well: Well) -> int:
    return 1


async def move(tx: hp.Tx, key: str, by: float) -> float:
    well = await tx[wells].get(key)
    assert_type(well, Well | None)
    assert well is not None
    await tx[wells].put(well)
    async for one in tx[wells].where(hp.F.depth_m > 1):
        assert_type(one, Well)
    return well.depth_m + by


def blocking() -> None:
    with hp.open("a.db", collections=[wells, cities, plain], durability="relaxed") as db:
        assert_type(db, hp.Database)
        hits = db[wells].where(hp.F.depth_m > 1).search("sand", ["id"], limit=5)
        assert_type(hits, hp.Hits[Well])
        assert_type(hits[0], hp.Hit[Well])
        assert_type(hits[0].document, Well)
        assert_type(hits.documents, list[Well])
        assert_type(hits[0].snippet(words=5), str)
        w = db[wells]
        assert_type(w, hp.Documents[Well])
        assert_type(db["wells"], hp.Documents[Any])
        assert_type(w.get("a"), Well | None)
        assert_type(w.get("a", 0), Well | int)
        assert_type(w.get_many(["a"]), list[Well | None])
        assert_type(w.update("a", deepen), Well)
        assert_type(w.patch("a", depth_m=1.0), Well)
        assert_type(w.delete("a"), int)
        assert_type(w.where(hp.F.depth_m > 1).order_by("-depth_m").limit(20).all(), list[Well])
        assert_type(w.where("depth_m").between(1, 2).first(), Well | None)
        assert_type(w.where({"depth_m": {"$gt": 1}}).one(), Well)
        assert_type(w.filter(lambda well: well.depth_m > 1).count(), int)
        assert_type(db[cities].get("a"), City | None)
        assert_type(db[plain].all(), list[dict[str, Any]])
        assert_type(db.run(move, "a", 1.0), float)
        assert_type([one for one in w], list[Well])
        assert_type(next(w.live()), hp.LiveChange[Well])
        assert_type(w.live().next(timeout_s=1), hp.LiveChange[Well] | None)
        assert_type(next(w.live()).rows, hp.LiveRows[Well])
        assert_type(next(w.live()).rows[0], Well)
        assert_type(next(w.live()).rows[1:3], list[Well])
        assert_type(next(w.live()).edits, list[hp.Edit[Well]])
        assert_type(w.meta("a"), hp.DocumentMeta | None)
        fields = hp.fields(Well)
        assert_type(w.where(fields.depth_m > 1).all(), list[Well])
        assert_type(w.page(20), hp.Page[Well])
        assert_type(w.page(20).items, list[Well])
        assert_type(w.sum("depth_m"), int | float)
        assert_type(w.avg("depth_m"), float | None)
        assert_type(w.group_by("id").count(), dict[Any, int])
        assert_type(w.aggregate(n=hp.agg.count()), dict[str, Any])
        cities_of = hp.Many(cities, "well_id")
        city = hp.One(cities, "id")
        for row in w.include(cities=cities_of, city=city):
            assert_type(row, hp.Included[Well])
            assert_type(row.document, Well)
            assert_type(row[cities_of], list[City])
            assert_type(row[city], City | None)
        nested = cities_of.include(wells=hp.One(wells, "id"))
        assert_type(w.include(cities=nested).all()[0][nested], list[hp.Included[City]])
        assert_type(w.where(hp.F.depth_m > 1).or_("id").equals("a").all(), list[Well])
        assert_type(w.last(), Well | None)
        assert_type(w.where(hp.F.depth_m > 1).update(deepen), int)
        with db.transaction():
            w.clear()

        # Each of these must stay an error: an unused "ignore" is one too.
        w.put({"id": "a"})  # type: ignore[arg-type]
        w.update("a", wrong)  # type: ignore[arg-type]
        w.where(hp.F.depth_m > 1).update(wrong)  # type: ignore[arg-type]
        w.aggregate(n=5)  # type: ignore[arg-type]
        w.include(cities=5)  # type: ignore[arg-type]
        db.run(move, "a", "far")  # type: ignore[arg-type]
        db.run(move)  # type: ignore[call-arg]
        hp.fields(Well).dephts  # type: ignore[attr-defined]
        hp.open("a.db", collections=[wells], durability="some")  # type: ignore[arg-type]


async def on_a_loop() -> None:
    async with hp.open_async("a.db", collections=[wells]) as db:
        assert_type(db, hp.AsyncDatabase)
        w = db[wells]
        assert_type(w, hp.AsyncDocuments[Well])
        assert_type(await w.get("a"), Well | None)
        assert_type(await w.get("a", 0), Well | int)
        assert_type(await w.search("sand", {"id": 2.0}, where=hp.F.depth_m > 1), hp.Hits[Well])
        assert_type(await w.where(hp.F.depth_m > 1).all(), list[Well])
        assert_type(await db.run(move, "a", 1.0), float)
        async for one in w.where("depth_m").above(1):
            assert_type(one, Well)
        async for change in w.live():
            assert_type(change, hp.LiveChange[Well])
    again = await hp.open_async("a.db", collections=[wells])
    assert_type(again, hp.AsyncDatabase)
