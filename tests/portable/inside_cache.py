"""What a connection keeps in memory is never stale: two connections against a dict."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import homeport as hp
from homeport.storage.indexeddb import IndexedDBStore

DOCS = hp.Collection("docs", indexes=["n"])
OTHER = hp.Collection("other")
KEYS = [f"k{n}" for n in range(12)]


def _kept(db: hp.AsyncDatabase) -> Any:
    return db._driver.engine.store.kept


async def _agrees(db: hp.AsyncDatabase, model: dict[str, int]) -> None:
    docs = db[DOCS]
    rows = [{"id": key, "n": n} for key, n in sorted(model.items())]
    few = [row for row in sorted(rows, key=lambda row: (row["n"], row["id"])) if row["n"] >= 500]
    assert await docs.all() == rows
    assert await docs.get_many(KEYS) == [next((r for r in rows if r["id"] == k), None) for k in KEYS]
    assert await docs.where(hp.F.n >= 500).order_by("n").all() == few
    assert await docs.where(hp.F.n >= 500).count() == len(few)
    assert sorted(await docs.keys()) == sorted(model)


async def _write(db: hp.AsyncDatabase, model: dict[str, int], dice: random.Random) -> None:
    docs, key, n = db[DOCS], dice.choice(KEYS), dice.randrange(1_000)
    kind = dice.randrange(8)
    if kind <= 2:
        await docs.put({"id": key, "n": n})
        model[key] = n
    elif kind == 3:
        await docs.delete(key)
        model.pop(key, None)
    elif kind == 4:
        await docs.put_many([{"id": one, "n": n} for one in KEYS[:5]])
        model.update(dict.fromkeys(KEYS[:5], n))
    elif kind == 5:
        await docs.where(hp.F.n < 200).delete()
        for one in [one for one, value in model.items() if value < 200]:
            del model[one]
    elif kind == 6:
        await db[OTHER].put({"id": key})
    else:

        async def move(tx: Any) -> None:
            await tx[DOCS].put({"id": key, "n": n})
            assert (await tx[DOCS].get_many(KEYS))[KEYS.index(key)] == {"id": key, "n": n}
            assert {"id": key, "n": n} in await tx[DOCS].all()
            if n % 2:
                raise LookupError
            await tx[DOCS].put({"id": KEYS[0], "n": n})

        try:
            await db.run(move)
            model.update({key: n, KEYS[0]: n})
        except LookupError:
            pass


async def coherence(rounds: int = 300) -> Mapping[str, Any]:
    dice, model = random.Random(7), dict[str, int]()
    options: dict[str, Any] = {"collections": [DOCS, OTHER], "durability": "relaxed"}
    one = await hp.open_async("coherence", **options)
    two = await hp.open_async("coherence", **options)
    for _ in range(rounds):
        await _write(dice.choice((one, two)), model, dice)
        for db in dice.choices((one, two), k=dice.randrange(3)):
            await _agrees(db, model)
    await _agrees(one, model)
    hits = _kept(one).hits
    await _agrees(one, model)
    served = _kept(one).hits - hits

    # What is handed out is the caller's own.
    (await one[DOCS].all())[0]["n"] = -1
    (await one[DOCS].keys()).clear()
    for document in await one[DOCS].get_many(KEYS):
        if document is not None:
            document["n"] = -1
    await _agrees(one, model)

    # More commits than are looked through, and changes without keys.
    for n in range(305):
        await two[OTHER].put({"id": "x", "n": n})
    await two[DOCS].put({"id": "k1", "n": 900})
    await _agrees(one, {**model, "k1": 900})
    await two[DOCS].clear()
    await _agrees(one, {})

    # Another database of the same name.
    await one[DOCS].put({"id": "k2", "n": 1})
    await _agrees(one, {"k2": 1})
    await one.close()
    await two.close()
    await IndexedDBStore.delete("coherence")
    async with hp.open_async("coherence", **options) as db:
        await _agrees(db, {})
        most = _kept(db)
        most.max_bytes = 20_000
        for n in range(40):
            await db[DOCS].put({"id": f"k{n}", "n": n, "text": "x" * 900})
        for _ in range(3):
            await db[DOCS].get_many([f"k{n}" for n in range(40)])
            await db[DOCS].where(hp.F.n < 9).all()
        bounded = most.bytes <= 20_000 and len(most) > 0
    await IndexedDBStore.delete("coherence")
    return {"served": served, "bounded": bounded}


async def turn(argument: list[Any]) -> list[Any]:
    """[name, how many]: read, add one, read again; asked of several tabs in turn."""
    name, times = argument
    async with hp.open_async(name, collections=[DOCS, OTHER], durability="relaxed") as db:
        seen = []
        for _ in range(times):
            before = await db[DOCS].all()
            await db[DOCS].update("k", _more, {"id": "k", "n": 0})
            after = await db[DOCS].all()
            seen.append([before[0]["n"] if before else 0, after[0]["n"]])
    return seen


def _more(document: Any) -> Any:
    document["n"] += 1
    return document
