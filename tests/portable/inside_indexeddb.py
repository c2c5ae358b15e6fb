"""The IndexedDB store and the browser's driver under Pyodide; in Node on fake-indexeddb."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import homeport as hp
from homeport.core.codec import Table
from homeport.core.query import EMPTY
from homeport.core.requests import Count, Find, Get, GetMany, Operation, Put, Write
from homeport.drivers import watch
from homeport.errors import Corrupted
from homeport.drivers.browser import BrowserDriver
from homeport.drivers.suspending import wait_for
from homeport.storage import indexeddb_session
from homeport.storage.indexeddb import IndexedDBStore
from homeport.testing import conformance
from homeport.testing.conformance_later import run_later
from tests.facade import cases, cases_blocking, shared
from tests.portable.inside import TABLE, Outcome, _refusal

CASE_S = 60
LOG_KEPT = 100


async def suite(every: list[int] | None = None) -> Mapping[str, Any]:
    """The conformance suite on the IndexedDB store. every: [step, first] of the cases; None = all."""
    outcome, seconds = Outcome(), {}
    step, first = every or [1, 0]
    indexeddb_session.CHANGES_KEPT = LOG_KEPT  # each row of the log is a transaction of milliseconds
    for number, case in enumerate(conformance.cases(TABLE)):
        if number % step != first:
            continue

        async def run(case: Any = case, number: int = number) -> None:
            world = conformance.World(log_kept=LOG_KEPT)
            store = await IndexedDBStore.open(f"conformance-{number}", clock_ms=world.clock_ms)
            try:
                await asyncio.wait_for(run_later(case, world, store), CASE_S)
            finally:
                await store.close()
            await IndexedDBStore.delete(store.name)

        start = time.perf_counter()
        await outcome.run(str(case), run)
        seconds[str(case)] = round(time.perf_counter() - start, 2)
    return {"stores": outcome.json(), "seconds": seconds}


async def facade() -> Mapping[str, Any]:
    """The asyncio facade on IndexedDB; and that what was written is there when it is opened again."""
    outcome = Outcome()
    for name, check in shared.checks(cases).items():

        async def case(name: str = name, check: Any = check) -> None:
            async with hp.open_async(f"facade-{name}", collections=shared.COLLECTIONS) as db:
                await asyncio.wait_for(check(db), 60)
            await IndexedDBStore.delete(f"facade-{name}")

        await outcome.run(name, case)
    blocking = Outcome()
    for name, check in shared.checks(cases_blocking).items():

        def case(name: str = name, check: Any = check) -> None:
            with hp.open(f"blocking-{name}", collections=shared.COLLECTIONS) as db:
                check(db)
            wait_for(IndexedDBStore.delete(f"blocking-{name}"))

        await blocking.run(name, case)
    with hp.open("blocks", collections=shared.COLLECTIONS) as db:
        blocks = [_refusal(db.transaction)[0], _refusal(db.snapshot)[0]]
    kept = {"id": "kept", "n": 1.0, "b": {"c": ["\U0001f600", None, 2**53]}}
    async with hp.open_async("kept", collections=shared.COLLECTIONS) as db:
        await db[shared.PLAIN].put(kept)
    async with hp.open_async("kept", collections=shared.COLLECTIONS, readonly=True) as db:
        found = await db[shared.PLAIN].get("kept")
        sizes = await db.size()
        info = await db.storage_info()
        refused = await _refused(db[shared.PLAIN].put({"id": "x"}))
    closed = await _refused(db[shared.PLAIN].get("kept"))
    await IndexedDBStore.delete("kept")
    await IndexedDBStore.delete("blocks")
    return {
        "asyncio": outcome.json(),
        "blocking": blocking.json(),
        "blocks": blocks,
        "callback": await _in_a_callback(),
        "kept": found == kept and repr(found) == repr(kept),
        "size": [sizes["plain"], sizes["total"], info.engine],
        "refused": [refused, closed],
        "block": _refusal(db.transaction),
    }


async def _in_a_callback() -> list[str]:
    """What a blocking call says inside the callback of an event, where Python cannot be suspended."""
    from js import setTimeout
    from pyodide.ffi import create_once_callable

    said = asyncio.get_running_loop().create_future()
    call = lambda: hp.open("callback", collections=[])  # noqa: E731
    setTimeout(create_once_callable(lambda: said.set_result(_refusal(call))), 0)
    return await said


async def _refused(wanted: Any) -> str:
    try:
        await wanted
    except hp.HomeportError as error:
        return type(error).__name__
    return ""


def _now() -> int:
    return time.time_ns() // 1_000_000


async def opened(name: str, *collections: Any, **options: Any) -> tuple[IndexedDBStore, list[Table[Any]]]:
    store = await IndexedDBStore.open(name, clock_ms=_now, **options)
    tables = [Table(collection) for collection in collections]
    await store.define(tables)
    return store, tables


def _count_transactions() -> Any:
    """Counts the transactions that are begun from now on, by mode; not those that only look at the log,
    which a connection begins by itself."""
    from pyodide.code import run_js

    return run_js("""
        (() => {
          const kind = Object.getPrototypeOf(IDBDatabase.prototype).transaction ? null : IDBDatabase.prototype;
          const seen = { readonly: 0, readwrite: 0 }, before = kind.transaction;
          kind.transaction = function (stores, mode, options) {
            if (String(stores) !== "changes") seen[mode ?? "readonly"]++;
            return before.call(this, stores, mode, options);
          };
          return { seen, end() { kind.transaction = before; } };
        })()
    """)


def _steps_of(docs: Table[Any], log: list[Any]) -> Any:
    """A plan that decides by what it has read, several times."""
    text = yield Get(docs, "a")
    log.append(text)
    keys = yield Find(docs, EMPTY.and_where(hp.F.n > 1).with_order("-n"), "keys")
    log.append(keys)
    row = docs.codec.row({"id": "sum", "n": len(keys)})
    (result,) = yield Write([Put(docs, [row])])
    log.append(result.keys)
    log.append((yield Count(docs, EMPTY)))
    try:
        yield Get(docs, float("nan"))
    except hp.HomeportError as error:
        log.append(type(error).__name__)
    return (yield Get(docs, "sum"))


async def plans() -> Mapping[str, Any]:
    """One plan of several steps in one transaction; a failing one; a cancelled one."""
    store, (docs,) = await opened("plans", hp.Collection("docs", indexes=["n"]))
    driver = BrowserDriver(store, new_unit=hp.new_id)
    rows = [docs.codec.row({"id": key, "n": n}) for n, key in enumerate("abcd")]
    await driver.run(Operation(Write([Put(docs, rows)]), "write", True))
    log: list[Any] = []
    counter = _count_transactions()
    result = await driver.run(Operation(_steps_of(docs, log), "write", False, (docs,)))
    begun = counter.seen.to_py()
    counter.end()

    def failing() -> Any:
        yield Write([Put(docs, [docs.codec.row({"id": "lost"})])])
        yield Get(docs, "lost")
        raise LookupError("on purpose")

    failed = None
    try:
        await driver.run(Operation(failing(), "write", False, (docs,)))
    except LookupError as error:
        failed = str(error)

    def endless() -> Any:
        yield Write([Put(docs, [docs.codec.row({"id": "lost"})])])
        while True:
            yield Get(docs, "a")

    task = asyncio.ensure_future(driver.run(Operation(endless(), "write", False, (docs,))))
    await asyncio.sleep(0.05)
    task.cancel()
    cancelled = False
    try:
        await asyncio.wait_for(task, 10)
    except asyncio.CancelledError:
        cancelled = True
    lost = await driver.run(Operation(Get(docs, "lost"), "read", True))
    await driver.close()
    return {"result": result, "log": log, "begun": begun, "failed": failed, "cancelled": cancelled, "lost": lost}


async def tabs() -> Mapping[str, Any]:
    """Two connections: concurrent increments, a change of indexes by one of them, deletion."""
    before = hp.Collection("docs", indexes=["n"])
    after = hp.Collection("docs", indexes=[("group", "n"), hp.Multi("tags"), hp.FullText("text")])
    one = await hp.open_async("tabs", collections=[before])
    two = await hp.open_async("tabs", collections=[before])
    await one[before].put({"id": "a", "n": 0, "tags": ["x", "y"], "text": "Größe zählt", "group": 1})
    await one[before].put_many({"id": f"b{i}", "n": i, "tags": ["z"], "group": i % 2} for i in range(700))

    def more(document: Any) -> Any:
        document["n"] += 1
        return document

    await asyncio.gather(*(db[before].update("a", more) for db in (one, two) * 20))
    total = (await two[before].get("a"))["n"]
    meta = await two[before].meta("a")
    three = await hp.open_async("tabs", collections=[after])
    docs = three[after]
    found = [
        await docs.where(hp.F.tags.contains("y")).keys(),
        await docs.where(hp.F.text.matches("grosse")).keys(),
        await docs.where(hp.F.group == 1).order_by("-n").limit(2).keys(),
        await docs.where(hp.F.group == 0, hp.F.n >= 690).count(),
    ]
    kept = (await docs.meta("a")).version == meta.version
    refused = await _refused(one[before].get("a"))
    two = await hp.open_async("tabs", collections=[after])
    before_s, watch.LOOK_S = watch.LOOK_S, 60.0  # a hint has to do
    try:
        async with docs.where(hp.F.group == 5).live() as live:
            await live.next(timeout_s=10)
            waiting = asyncio.ensure_future(live.next(timeout_s=30))
            await asyncio.sleep(0.05)
            await two[after].put({"id": "seen", "group": 5})
            change = await waiting
            hinted = None if change is None else [document["id"] for document in change.added]
    finally:
        watch.LOOK_S = before_s
    unique = hp.Collection("docs", indexes=[hp.Unique("group")])
    try:
        await hp.open_async("tabs", collections=[unique])
        twins = ""
    except hp.HomeportError as error:
        twins = type(error).__name__
    still = await docs.where(hp.F.group == 5).count()
    made = await _refused(three.create_index(after, "n"))
    for db in (one, two, three):
        await db.close()
    await IndexedDBStore.delete("tabs")
    async with hp.open_async("tabs", collections=[before]) as db:
        empty = await db[before].count()
    return {"total": total, "found": found, "kept": kept, "refused": refused, "hinted": hinted, "twins": [twins, still, made], "empty": empty}


async def faults() -> Mapping[str, Any]:
    """A full disk, an engine without getAllRecords, a page without IndexedDB."""
    from pyodide.code import run_js

    docs = hp.Collection("docs", indexes=["n"])
    found: dict[str, Any] = {}
    async with hp.open_async("faults", collections=[docs]) as db:
        await db[docs].put({"id": "before"})
        full = run_js("""
            (() => {
              const kind = IDBObjectStore.prototype, { put, add } = kind;
              kind.put = kind.add = function () {
                throw new DOMException("no room", "QuotaExceededError");
              };
              return { end() { Object.assign(kind, { put, add }); } };
            })()
        """)
        found["full"] = await _refused(db[docs].put({"id": "lost"}))
        full.end()
        await db[docs].put({"id": "after"})
        found["keys"] = await db[docs].keys()
        older = run_js("""
            (() => {
              const kinds = [IDBIndex.prototype, IDBObjectStore.prototype];
              const before = kinds.map((kind) => kind.getAllRecords);
              kinds.forEach((kind) => delete kind.getAllRecords);
              return { end() { kinds.forEach((kind, i) => (kind.getAllRecords = before[i])); } };
            })()
        """)
        await db[docs].put_many({"id": f"d{i}", "n": i} for i in range(20))
        found["older"] = await db[docs].where(hp.F.n >= 0).order_by("-n").limit(3).keys()
        older.end()
    hidden = run_js("""
        (() => {
          const before = Object.getOwnPropertyDescriptor(globalThis, "indexedDB");
          Object.defineProperty(globalThis, "indexedDB", { value: undefined, configurable: true });
          return { end() { delete globalThis.indexedDB; if (before) Object.defineProperty(globalThis, "indexedDB", before); } };
        })()
    """)
    try:
        await hp.open_async("nowhere", collections=[docs], fallback=False)
    except hp.HomeportError as error:
        found["nowhere"] = type(error).__name__
    hidden.end()
    found["given up"] = [await _given_up(docs, pause_s) for pause_s in (0.0, 0.001, 0.002, 0.004, 0.008)]
    found["empty"] = await _made_by_nobody(docs)
    for times in (2, 1_000):
        found[f"faulty {times}"] = await _opened_by_a_faulty_browser(docs, times)
    return found


async def _given_up(docs: hp.Collection[Any], pause_s: float) -> int:
    """Give up to open a new database after some time, and open it again → how many documents it has."""
    with suppress(TimeoutError):
        await (await asyncio.wait_for(hp.open_async("given up", collections=[docs]), pause_s)).close()
    async with hp.open_async("given up", collections=[docs]) as db:
        await db[docs].put({"id": 1})
        count = await db[docs].count()
    await IndexedDBStore.delete("given up")
    return count


async def _made_by_nobody(docs: hp.Collection[Any]) -> int:
    """Of a database without any store, in which somebody has stopped before he had made them."""
    from pyodide.code import run_js

    await run_js("""
        () => new Promise((done) => {
          const request = indexedDB.open("empty");
          request.onsuccess = () => { request.result.close(); done(1); };
        })
    """)()
    async with hp.open_async("empty", collections=[docs]) as db:
        await db[docs].put({"id": 1})
        count = await db[docs].count()
    await IndexedDBStore.delete("empty")
    return count


async def _opened_by_a_faulty_browser(docs: hp.Collection[Any], times: int) -> list[Any]:
    """The first so many attempts to open a database end with an UnknownError → the engine or error, and
    how many attempts were made."""
    from pyodide.code import run_js

    faulty = run_js("""
        (times) => {
          const before = Object.getOwnPropertyDescriptor(globalThis, "indexedDB"), real = indexedDB;
          const found = { attempts: 0 };
          const open = (...words) => {
            if (++found.attempts > times) return real.open(...words);
            const request = { error: new DOMException("a fault", "UnknownError") };
            setTimeout(() => request.onerror({ preventDefault() {} }), 0);
            return request;
          };
          const other = new Proxy(real, {
            get: (_, name) => name === "open" ? open
              : typeof real[name] === "function" ? real[name].bind(real) : real[name],
          });
          Object.defineProperty(globalThis, "indexedDB", { value: other, configurable: true });
          found.end = () => {
            delete globalThis.indexedDB;
            if (before) Object.defineProperty(globalThis, "indexedDB", before);
          };
          return found;
        }
    """)(times)
    try:
        async with hp.open_async("faulty", collections=[docs], fallback=False) as db:
            said = (await db.storage_info()).engine
    except hp.HomeportError as error:
        said = type(error).__name__
    finally:
        faulty.end()
    await IndexedDBStore.delete("faulty")
    return [said, faulty.attempts]


SHORT = hp.Collection("short", ttl_s=0.001)


async def expiry() -> list[str]:
    """Two connections write to a collection whose documents expire → which of them cleaned up."""
    from homeport.drivers import browser

    before, browser.PURGE_EVERY_S = browser.PURGE_EVERY_S, 30.0
    purge = IndexedDBStore.purge_expired

    async def noted(self: IndexedDBStore, limit: int = 500) -> int:
        removed = await purge(self, limit)
        seen.append(names[id(self)])
        return removed

    names: dict[int, str] = {}
    seen: list[str] = []
    try:
        async with (
            hp.open_async("expiry", collections=[SHORT]) as one,
            hp.open_async("expiry", collections=[SHORT]) as two,
        ):
            for name, db in (("one", one), ("two", two)):
                names[id(db._driver._store)] = name
            IndexedDBStore.purge_expired = noted  # type: ignore[method-assign]
            await one[SHORT].put({"id": 1})
            await asyncio.sleep(0.05)
            for db in (two, one, two):
                await db[SHORT].put({"id": 2})
    finally:
        browser.PURGE_EVERY_S, IndexedDBStore.purge_expired = before, purge  # type: ignore[method-assign]
    await IndexedDBStore.delete("expiry")
    return seen


async def pieces() -> bool:
    """What is read whole comes in pieces of 500: at their edges nothing is lost, doubled or out of
    order, whatever the keys are."""
    docs = hp.Collection("docs", indexes=["n"])
    for size, key in ((500, "{:04d}".format), (501, float), (1_207, lambda n: n if n % 3 else f"k{n:04d}")):
        async with hp.open_async("pieces", collections=[docs]) as db:
            await db[docs].put_many([{"id": key(n), "n": size - n} for n in range(size)])
            wanted = sorted(map(key, range(size)), key=lambda one: (isinstance(one, str), one))
            found = [[one["id"] for one in await db[docs].all()], await db[docs].keys(),
                     [one["id"] async for one in db[docs].where(hp.F.n >= 0).order_by("id")]]  # fmt: skip
            assert found == [wanted] * 3, (size, [len(one) for one in found])
            for most in (499, 500, size - 1):
                assert [one["id"] for one in await db[docs].limit(most).all()] == wanted[:most]
            back = await db[docs].order_by("n").all()
            assert [one["n"] for one in back] == list(range(1, size + 1))
        await IndexedDBStore.delete("pieces")
    return True


async def together() -> dict[str, Any]:
    """Reads by key of one moment go in a few transactions, each with an answer and an error of its own."""
    docs, more = hp.Collection("docs"), hp.Collection("more")
    found: dict[str, Any] = {}
    async with hp.open_async("together", collections=[docs, more]) as db:
        store = db._driver._store
        store.kept.max_bytes = 0  # nothing is answered from memory
        await db[docs].put_many([{"id": f"d{n}", "n": n} for n in range(1_200)])
        await db[more].put_many([{"id": n, "n": -n} for n in range(50)])
        counted = _count_transactions()
        try:
            wanted = [db[docs].get(f"d{n % 1_300}") for n in range(1_400)] + [db[more].get(n) for n in range(60)]
            answers = await asyncio.gather(*wanted)
        finally:
            counted.end()
        found["readonly"] = counted.seen.readonly
        found["right"] = [one and one["n"] for one in answers] == [
            n % 1_300 if n % 1_300 < 1_200 else None for n in range(1_400)
        ] + [-n if n < 50 else None for n in range(60)]
        twice = await asyncio.gather(*(db[docs].get("d1") for _ in range(5)))
        twice[0]["n"] = "changed"
        found["own"] = [one["n"] for one in twice[1:]]

        tasks = [asyncio.ensure_future(db[docs].get(f"d{n}")) for n in range(10)]
        await asyncio.sleep(0)
        tasks[5].cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        found["cancelled"] = [n for n, one in enumerate(ends) if isinstance(one, asyncio.CancelledError)]
        found["others"] = [one["n"] for one in ends if isinstance(one, dict)]

        async def write() -> int:
            await db[docs].put({"id": "d3", "n": 33})
            return (await db[docs].get("d3"))["n"]

        *_, after = await asyncio.gather(*(db[docs].get(f"d{n}") for n in range(100)), write())
        found["after"] = after

        broken = db._driver._reader._answers[Get]
        many = db._driver._reader.reads.get_many

        def refuse(request: Any) -> Any:
            if "d7" in getattr(request, "keys", [getattr(request, "key", None)]):
                raise Corrupted("d7 is broken", path=store.name)
            return broken(request) if isinstance(request, Get) else many(request)

        answers_of = db._driver._reader._answers
        before = dict(answers_of)
        answers_of[Get] = answers_of[GetMany] = refuse
        try:
            ends = await asyncio.gather(*(db[docs].get(f"d{n}") for n in range(10)), return_exceptions=True)
        finally:
            answers_of.update(before)
        found["broken"] = [type(one).__name__ if isinstance(one, Exception) else one["n"] for one in ends]
        last = [asyncio.ensure_future(db[docs].get(f"d{n}")) for n in range(20)]
        await asyncio.sleep(0)
    found["closing"] = [one["n"] for one in await asyncio.gather(*last)]
    await IndexedDBStore.delete("together")
    return found


async def everything() -> Mapping[str, Any]:
    """All but the suite, in one start of Pyodide."""
    return {"facade": await facade(), **await beside_the_facade()}


async def beside_the_facade() -> Mapping[str, Any]:
    found = {"plans": await plans(), "tabs": await tabs(), "faults": await faults(), "pieces": await pieces()}
    found["together"] = await together()
    found["cleaned"] = await expiry()
    for name in ("plans", "tabs", "faults"):
        await IndexedDBStore.delete(name)  # the page and its worker have the same databases
    return found
