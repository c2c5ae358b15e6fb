"""What the facade promises, in its asyncio form; the blocking form is generated from this file.

Each case gets an empty database with the collections of ``shared``. The cases run on every engine
and in every place where the library runs.
"""

from __future__ import annotations

import homeport as hp
from tests.facade import shared
from tests.facade.shared import PLAIN, SHORT, WELLS, Well, ids, raises, same


async def check_the_first_ten_lines(db: hp.AsyncDatabase) -> None:
    w = db[WELLS]
    await w.put(Well(id="w1", name="Brent-7", field="Brent", depth_m=2810.5, tags=["oil"]))
    query = w.where(hp.F.field == "Brent", hp.F.depth_m > 2000).order_by("-depth_m").limit(20)
    same(await query.all(), [Well("w1", "Brent-7", "Brent", 2810.5, ["oil"])])
    same(await db["wells"].get("w1"), (await query.all())[0])


async def check_documents(db: hp.AsyncDatabase) -> None:
    w = db[WELLS]
    same(await w.put_many(shared.wells()), ["w1", "w2", "w3", "w4"])
    same([await w.get("none"), await w.get("none", 7)], [None, 7])
    with raises(hp.KeyExists):
        await w.add(Well("w1", "other", "Brent", 1.0))
    same(await w.add(Well("w5", "new", "Brent", 1.0)), "w5")
    same([await w.delete("w5"), await w.delete("w5")], [1, 0])
    same((await w.patch("w1", depth_m=6.0)).depth_m, 6.0)
    with raises(hp.NotFound):
        await w.patch("none", depth_m=6.0)
    same((await w.update("w1", lambda well: Well("w1", "renamed", well.field, 7.0))).name, "renamed")
    same(await w.get("w1"), Well("w1", "renamed", "Brent", 7.0))
    same([d and d.id for d in await w.get_many(["w2", "none", "w1"])], ["w2", None, "w1"])
    same(await w.delete_many(["w1", "none", "w2"]), 2)
    same([await w.clear(), await w.count()], [2, 0])


async def check_keys_are_made(db: hp.AsyncDatabase) -> None:
    plain = db[PLAIN]
    first = await plain.put({"n": 1})
    second = await plain.put({"n": 2})
    same([len(str(first)), first < second], [36, True])
    same(await plain.get(first), {"n": 1, "id": first})


async def check_failed_rows_lose_only_themselves(db: hp.AsyncDatabase) -> None:
    w = db[WELLS]
    await w.put_many(shared.wells())
    with raises(hp.BulkError) as caught:
        await w.put_many(
            [Well("w6", "Troll-1", "x", 1.0), Well("w7", "ok", "x", 1.0), Well("w3", "Troll-1", "x", 2.0)]
        )
    same({n: type(e).__name__ for n, e in caught[0].failures.items()}, {0: "UniqueViolation"})
    same([await w.get("w6"), (await w.get("w7")).name, (await w.get("w3")).depth_m], [None, "ok", 2.0])
    with raises(hp.BulkError) as caught:
        await w.patch_many({"w7": {"name": "Brent-7"}, "none": {"name": "x"}, "w3": {"field": "y"}})
    same(sorted(caught[0].failures), [0, 1])
    same((await w.get("w3")).field, "y")


async def check_queries(db: hp.AsyncDatabase) -> None:
    w = db[WELLS]
    await w.put_many(shared.wells())
    brent = w.where(hp.F.field == "Brent")
    same(ids(await brent.order_by("depth_m").all()), ["w2", "w4", "w1"])
    same(ids(await brent.order_by("-depth_m").limit(1).offset(1).all()), ["w4"])
    same(await w.where({"depth_m": {"$gte": 900, "$lt": 1501}}).order_by("-depth_m").keys(), ["w2", "w3"])
    same(sorted(await w.where(hp.F.tags.contains("oil")).keys()), ["w1", "w2"])
    same(await w.where(hp.F.name.matches("brent 8")).keys(), ["w2"])
    same(sorted(await w.where("name").starts_with("Brent").keys()), ["w1", "w2", "w4"])
    same(sorted(await w.where("depth_m").above(2001).keys()), ["w1"])
    same([await brent.count(), await brent.exists(), (await w.where(hp.F.id == "w3").one()).id], [3, True, "w3"])
    same(await w.where(hp.F.field == "none").first(), None)
    same(ids(await w.filter(lambda well: well.name.endswith("9")).all()), ["w4"])
    same(ids([well async for well in brent]), ["w1", "w2", "w4"])
    same(ids(await w.order_by("depth_m").after(1500.0, "w2").all()), ["w4", "w1"])
    same(ids(await w.order_by("field").reverse().all()), ["w3", "w4", "w2", "w1"])
    with raises(hp.UnknownField):
        w.where(hp.F.depht_m > 1)
    same("wells" in str(await brent.explain()), True, "the explanation")
    same(await brent.patch(depth_m=1.0), 3)
    same(await w.where(hp.F.depth_m == 1.0).delete(), 3)
    same(await w.keys(), ["w3"])


async def check_aggregates(db: hp.AsyncDatabase) -> None:
    w = db[WELLS]
    await w.put_many(shared.wells())
    same([await w.sum("depth_m"), await w.where(hp.F.field == "Brent").avg("depth_m")], [7211.5, 6311.5 / 3])
    same([await w.min("depth_m"), await w.max("name")], [900.0, "Troll-1"])
    same(await w.distinct("field"), ["Brent", "Troll"])
    same(await w.group_by("field").count(), {"Brent": 3, "Troll": 1})
    same(await w.group_by(hp.agg.each("tags")).max("depth_m"), {"dry": 2001.0, "gas": 1500.0, "oil": 2810.5, None: 900.0})
    rows = await w.group_by("field").aggregate(n=hp.agg.count(), deepest=hp.agg.max("depth_m"))
    same(rows[0], {"field": "Brent", "n": 3, "deepest": 2810.5})


async def check_ranked_search(db: hp.AsyncDatabase) -> None:
    w = db[WELLS]
    await w.put_many(shared.wells())
    await w.put(Well("w5", "north north Brent", "Brent", 1.0))
    hits = await w.search("north brent")
    same([hit.key for hit in hits], ["w5", "w2"])
    same([hits[0].score > hits[1].score, hits[1].snippet("name")], [True, "<b>Brent</b>-8 <b>north</b>"])
    same([hit.key for hit in await w.search("brent -north", where=hp.F.depth_m > 2005)], ["w1"])
    same([hit.key for hit in await w.search("nor*", limit=1)], ["w5"])
    same(list(await w.search("nothing")), [])


async def check_a_bulk_load(db: hp.AsyncDatabase) -> None:
    w = db[WELLS]
    await w.load(Well(f"w{n:04}", f"name {n}", "Brent" if n % 2 else "Troll", float(n)) for n in range(1_500))
    same([await w.count(), await w.where(hp.F.field == "Brent", hp.F.depth_m > 1_490).count()], [1_500, 5])
    same(await w.where(hp.F.name.matches("77")).keys(), ["w0077"])


async def check_many_documents_in_chunks(db: hp.AsyncDatabase) -> None:
    plain = db[PLAIN]
    await plain.put_many({"id": f"d{n:05}", "n": n % 10} for n in range(1_700))
    same([d["id"] async for d in plain], [f"d{n:05}" for n in range(1_700)])
    same(len([d async for d in plain.where(hp.F.n == 3).order_by("-n")]), 170)
    same(len(await plain.all()), 1_700)


async def check_units(db: hp.AsyncDatabase) -> None:
    await db[WELLS].put_many(shared.wells())
    total = await db.run(shared.deepen, 100.0)
    same(total, 2810.5 + 1500 + 2001 + 300)
    same(await db[PLAIN].get("total"), {"id": "total", "n": total, "deepest": "w1"})
    with raises(LookupError):
        await db.run(shared.fail_half_way)
    same([await db[PLAIN].keys(), await db[WELLS].count()], [["total"], 4])
    same(await db.run(shared.survive_a_failure), [["a", "b", "total"], 5])
    same((await db[WELLS].get("w5")).name, "new")
    with raises(hp.TransactionError):
        await db.run(shared.forgetful)
    same(await db[PLAIN].get("kept?"), None)


async def check_units_that_only_read(db: hp.AsyncDatabase) -> None:
    await db[WELLS].put_many(shared.wells())
    same(await db.read(shared.depths, "Brent"), [2810.5, 2001.0, 4])
    same(await db.run(shared.depths, "Brent"), [2810.5, 2001.0, 4])
    with raises(hp.TransactionError):
        await db.read(shared.deepen, 100.0)
    same([await db[PLAIN].get("total"), (await db[WELLS].get("w1")).depth_m], [None, 2810.5])


async def check_numbers_as_keys(db: hp.AsyncDatabase) -> None:
    counted = db[shared.COUNTED]
    same([await counted.put({"n": 1}), await counted.put({"id": 7, "n": 2})], [1, 7])
    same(await counted.put_many([{"n": 3}, {"id": 3.5, "n": 4}, {"id": "t"}, {"n": 5}]), [8, 3.5, "t", 9])
    await counted.delete(9)
    same(await counted.add({"n": 6}), 10)
    with raises(LookupError):
        await db.run(shared.count_and_fail)
    same([await counted.put({"n": 7}), await counted.get(11)], [11, {"id": 11, "n": 7}])


async def check_unique_values_are_swapped_in_one_call(db: hp.AsyncDatabase) -> None:
    w = db[WELLS]
    await w.put_many(shared.wells())
    one, two = (await w.get("w1")).name, (await w.get("w2")).name
    await w.patch_many({"w1": {"name": two}, "w2": {"name": one}})
    same([(await w.get("w1")).name, (await w.get("w2")).name], [two, one])
    with raises(hp.UniqueViolation) as caught:
        await w.patch("w1", name=one)
    same([caught[0].context["value"], caught[0].context["other"]], [one, "w2"])


async def check_metadata(db: hp.AsyncDatabase) -> None:
    plain = db[PLAIN]
    await plain.put({"id": "a", "n": 1})
    await plain.put({"id": "a", "n": 2})
    meta = await plain.meta("a")
    same([meta.version, meta.created <= meta.modified, await plain.meta("none")], [2, True, None])
    await db[SHORT].put({"id": "s"})
    expires = (await db[SHORT].meta("s")).expires
    same([expires is not None, await db[SHORT].count()], [True, 1])


async def check_a_live_query(db: hp.AsyncDatabase) -> None:
    w = db[WELLS]
    await w.put_many(shared.wells())
    async with w.where(hp.F.field == "Brent").order_by("depth_m").limit(2).live() as live:
        change = await live.next(timeout_s=5)
        same(ids(change.rows), ["w2", "w4"])
        await w.put(Well("w0", "Brent-0", "Brent", 1.0))
        change = await live.next(timeout_s=5)
        same([ids(change.added), change.removed, ids(change.rows)], [["w0"], ["w4"], ["w0", "w2"]])
        await w.put(Well("w8", "other", "Troll", 1.0))
        same(await live.next(timeout_s=0.05), None)


async def check_bad_input_is_refused_with_its_reason(db: hp.AsyncDatabase) -> None:
    plain = db[PLAIN]
    for bad in ({"id": True}, {"id": "a", "v": 2**60}, {"id": "a", "x.y": 1}, {"id": "a", "v": {1, 2}}, 7):
        with raises(hp.HomeportError) as caught:
            await plain.put(bad)
        same(bool(caught[0].action), True, f"what to do about {bad!r}")
    same(await plain.count(), 0)
    with raises(hp.UnknownCollection):
        db["nobody"]
