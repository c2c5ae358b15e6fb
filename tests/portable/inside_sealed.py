"""Encrypted databases of a browser, under Pyodide: what they show, and whom they open to."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import homeport as hp
from homeport import browser
from homeport.drivers.suspending import wait_for
from homeport.storage import indexeddb_session, webcrypto
from homeport.storage.indexeddb import IndexedDBStore
from homeport.storage.secret import Secret
from homeport.testing import conformance
from homeport.testing.conformance_later import run_later
from tests.facade import cases, cases_blocking, shared
from tests.portable.inside import TABLE, Outcome
from tests.portable.inside_indexeddb import LOG_KEPT

NOTES = hp.Collection("notes", indexes=["n", hp.Unique("code"), hp.Multi("tags"), hp.FullText("text")])
MORE = hp.Collection("notes", indexes=["n", ("n", "code"), hp.Unique("code"), hp.FullText("text")])
RAW = bytes(range(32))
WORDS = ("marzipan", "Grüße", " and rum", 'text\\":\\"', 'k1\\"]')
"""Of documents, the queue, and the last row of the log, as they stand in the JSON of everything."""

NOWHERE = "http://127.0.0.1:9"

_RAW_JS = """
(() => {
  const opened = (name) => new Promise((resolve, reject) => {
    const request = indexedDB.open(name);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(new Error("open"));
  });
  const show = (key, value) =>
    value?.byteLength === undefined ? value
      : Array.from(new Uint8Array(value.buffer ?? value), (b) => String.fromCharCode(b)).join("");
  const within = async (name, stores, mode, work) => {
    const database = await opened(name);
    const tx = database.transaction(stores ?? [...database.objectStoreNames], mode);
    const end = new Promise((resolve) => { tx.oncomplete = resolve; tx.onabort = resolve; });
    const found = [];
    work(tx, found);
    await end;
    database.close();
    return found;
  };
  return {
    dump: async (name) => JSON.stringify(await within(name, null, "readonly", (tx, found) => {
      for (const store of tx.objectStoreNames) {
        const request = tx.objectStore(store).getAll();
        request.onsuccess = () => found.push([store, request.result]);
      }
    }), show),
    change: async (name, how) => {
      await within(name, ["docs:notes"], "readwrite", (tx) => {
        const store = tx.objectStore("docs:notes");
        const a = store.get("k1"), b = store.get("k2");
        b.onsuccess = () => {
          const one = a.result, two = b.result;
          if (how === "swap") [one.d, two.d] = [two.d, one.d];
          if (how === "flip") one.d[one.d.length - 1] ^= 1;
          if (how === "plain") one.d = '{"id":"k1","n":1}';
          store.put(one);
          store.put(two);
        };
      });
      return true;
    },
  };
})()
"""


def _raw() -> Any:
    from pyodide.code import run_js

    return run_js(_RAW_JS)


async def refused(name: str, key: Any = None, *collections: Any) -> list[Any]:
    try:
        async with hp.open_async(name, collections=collections or [NOTES], key=key) as db:
            await db["notes"].all()
    except hp.HomeportError as error:
        return [type(error).__name__, error.context.get("collection"), error.context.get("key")]
    return []


def document(n: int) -> dict[str, Any]:
    return {"id": f"k{n}", "n": n, "code": f"c{n}", "tags": ["t"], "text": f"marzipan {n} Grüße \U0001f600"}


async def everything(sealed: Mapping[str, str]) -> Mapping[str, Any]:
    """sealed: what CPython has sealed with RAW."""
    found: dict[str, Any] = {}
    found["without"] = (await _used(None))[0]
    for key in ("correct horse", RAW, await browser.device_key("sealed")):
        await IndexedDBStore.delete("sealed")
        found[f"kind {type(key).__name__}"] = await _used(key)
    found["device again"] = await refused("sealed", await browser.device_key("sealed"))
    await browser.forget_key("sealed")
    found["forgotten"] = await refused("sealed", await browser.device_key("sealed"))
    await browser.forget_key("sealed")
    await IndexedDBStore.delete("sealed")
    found["refusals"] = await _refusals()
    found["rekey"] = await _rekeyed()
    found["twins"] = await _both_ways(sealed)
    await IndexedDBStore.delete("sealed")
    return found


async def _used(key: Any) -> list[Any]:
    """Write, look at what is stored, read in every way."""
    async with hp.open_async("sealed", collections=[NOTES], key=key) as db:
        sync = db.sync(NOWHERE, token="t")
        notes = db[NOTES]
        await notes.put_many([document(n) for n in range(300)])
        await notes.patch("k1", text="marzipan and rum")

        async def unit(tx: Any) -> None:
            one = await tx["notes"].get("k2")
            await tx["notes"].put({**one, "text": "marzipan of a unit"})

        await db.run(unit)
        raw = await _raw().dump("sealed")
        clear = [word for word in WORDS if word in raw]
        status = await sync.status()
        async with notes.where(hp.F.n == 1000).live() as live:
            await live.next(timeout_s=10)
            await notes.put(document(1000))
            change = await live.next(timeout_s=10)
        size = await db.size()
        reads = [
            (await notes.get("k1"))["text"],
            (await notes.where(hp.F.code == "c2").one())["text"],
            await notes.where(hp.F.n >= 290, hp.F.n < 300).order_by("-n").limit(2).keys(),
            await notes.where(hp.F.text.matches("rum")).keys(),
            (await notes.search("rum")).total,
            await notes.where(hp.F.tags.contains("t")).count(),
            [one["id"] for one in change.added],
            status.queued,
            size["notes"] > 15_000,
        ]
        await notes.delete("k1000")
        # Another tab with other indexes: an upgrade of everything that is sealed.
        async with hp.open_async("sealed", collections=[MORE], key=key) as other:
            reads.append(await other[MORE].where(hp.F.n == 7, hp.F.code == "c7").keys())
            reads.append(await other[MORE].count())
    return [clear, raw.count("docs:"), reads]


async def _refusals() -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    async with hp.open_async("sealed", collections=[NOTES], key="right") as db:
        await db[NOTES].put_many([document(n) for n in range(3)])
    found["none"] = await refused("sealed")
    found["wrong"] = await refused("sealed", "wrong")
    found["kind"] = await refused("sealed", RAW)
    for how in ("swap", "swap", "flip", "flip", "plain"):
        await _raw().change("sealed", how)
        found[how] = [*found.get(how, []), *await refused("sealed", "right")]
    await IndexedDBStore.delete("sealed")
    async with hp.open_async("sealed", collections=[NOTES]) as db:
        await db[NOTES].put(document(1))
    found["not encrypted"] = await refused("sealed", "right")
    found["still"] = await refused("sealed")
    return found


async def _rekeyed() -> Mapping[str, Any]:
    """Another key, while a tab has it open; that tab goes on, also when a third one upgrades."""
    found: dict[str, Any] = {"no database": await _no_rekey("nowhere", "a", "b")}
    await IndexedDBStore.delete("sealed")
    async with hp.open_async("sealed", collections=[NOTES], key=bytes(32)) as db:
        await db[NOTES].put(document(1))
        found["wrong"] = await _no_rekey("sealed", RAW, "third")
        found["none"] = await _no_rekey("sealed", bytes(32), None)
        await browser.rekey("sealed", bytes(32), "second")
        await db[NOTES].put(document(2))
        found["old"] = await refused("sealed", bytes(32))
        found["new"] = await refused("sealed", "second", MORE)
        try:
            found["open"] = await db[NOTES].count()
        except hp.errors.SchemaMismatch:
            found["open"] = "another declaration"
    for old, new in (("second", RAW), (RAW, await browser.device_key("sealed")), (browser, bytes(32))):
        old = await browser.device_key("sealed") if old is browser else old
        await browser.rekey("sealed", old, new)
        found[f"not {type(old).__name__}"] = await refused("sealed", old, MORE)
    async with hp.open_async("sealed", collections=[MORE], key=bytes(32)) as db:
        found["kept"] = [note["text"] for note in await db[MORE].order_by("n").all()]
    await browser.forget_key("sealed")
    await IndexedDBStore.delete("sealed")
    async with hp.open_async("sealed", collections=[NOTES]) as db:
        await db[NOTES].put(document(1))
    found["plain"] = await _no_rekey("sealed", RAW, bytes(32))
    await IndexedDBStore.delete("sealed")
    return found


async def _no_rekey(name: str, old: Any, new: Any) -> str:
    try:
        await browser.rekey(name, old, new)
    except hp.HomeportError as error:
        return type(error).__name__
    return ""


async def _both_ways(sealed: Mapping[str, str]) -> Mapping[str, Any]:
    from js import Uint8Array

    vault = await webcrypto.unlocked(sealed["ring"], Secret(RAW), "CPython's")
    box = Uint8Array.new(b64decode(sealed["box"]))
    ring, own = await webcrypto.made(Secret(RAW), "the browser's")
    mine = await own.seal("document", "notes", "é\U0001f600", "from the browser")
    return {
        "opened": await vault.open("document", "notes", "é\U0001f600", box),
        "ring": ring,
        "box": b64encode(mine.to_bytes()).decode(),
    }


async def suite(every: list[int] | None = None) -> Mapping[str, Any]:
    """The conformance suite with a key. every: [step, first] of the cases; None = all."""
    step, first = every or [1, 0]
    outcome = Outcome()
    indexeddb_session.CHANGES_KEPT = LOG_KEPT
    for number, case in enumerate(conformance.cases(TABLE)):
        if number % step != first:
            continue

        async def run(case: Any = case, number: int = number) -> None:
            world, name = conformance.World(log_kept=LOG_KEPT), f"sealed-{number}"
            store = await IndexedDBStore.open(name, clock_ms=world.clock_ms, key=Secret(RAW))
            try:
                await asyncio.wait_for(run_later(case, world, store), 60)
            finally:
                await store.close()
            await IndexedDBStore.delete(name)

        await outcome.run(str(case), run)
    return outcome.json()


async def facade() -> Mapping[str, Any]:
    """Both facades with a key."""
    later, blocking = Outcome(), Outcome()
    for name, check in shared.checks(cases).items():

        async def case(name: str = name, check: Any = check) -> None:
            async with hp.open_async(f"s-{name}", collections=shared.COLLECTIONS, key=RAW) as db:
                await asyncio.wait_for(check(db), 60)
            await IndexedDBStore.delete(f"s-{name}")

        await later.run(name, case)
    for name, check in shared.checks(cases_blocking).items():

        def blocking_case(name: str = name, check: Any = check) -> None:
            with hp.open(f"b-{name}", collections=shared.COLLECTIONS, key=RAW) as db:
                check(db)
            wait_for(IndexedDBStore.delete(f"b-{name}"))

        await blocking.run(name, blocking_case)
    return {"asyncio": later.json(), "blocking": blocking.json()}


async def cost(repeats: int) -> Mapping[str, float]:
    """Times with a key as multiples of those without."""
    import statistics
    import time

    documents = [{**document(n), "more": "a line of text that people write " * 6} for n in range(2_000)]
    found: dict[str, list[float]] = {}
    databases = []
    for key in (None, RAW):
        db = await hp.open_async(f"cost-{key is None}", collections=[NOTES], key=key, durability="relaxed")
        await db[NOTES].put_many(documents)
        databases.append(db)
    work = {
        "put": lambda d: d.put(documents[7]),
        "put 200": lambda d: d.put_many(documents[:200]),
        "get": lambda d: d.get("k7"),
        "get 100": lambda d: d.get_many([f"k{n}" for n in range(100)]),
        "range 1000": lambda d: d.where(hp.F.n >= 500, hp.F.n < 1500).all(),
    }
    for name, run in work.items():
        times: list[list[float]] = [[], []]
        for _ in range(repeats):
            for db, into in zip(databases, times, strict=True):
                start = time.perf_counter()
                await run(db[NOTES])
                into.append((time.perf_counter() - start) * 1000)
        plain, sealed = map(statistics.median, times)
        found[name] = [round(plain, 2), round(sealed, 2), round(sealed / plain, 2)]
    for db in databases:
        await db.close()
    for name in ("cost-True", "cost-False"):
        await IndexedDBStore.delete(name)
    return found  # type: ignore[return-value]
