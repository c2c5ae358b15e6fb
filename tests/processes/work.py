"""What the processes of these tests do. Run by name in processes of their own."""

from __future__ import annotations

import os
import random
import time
from multiprocessing.synchronize import Event
from typing import Any

import homeport as hp

DOCS = hp.Collection(
    "docs",
    indexes=["n", ("kind", "n"), hp.Unique("name"), hp.Multi("tags"), hp.FullText("text")],
)
PAIRS = hp.Collection("pairs", indexes=["n"])
BOTH = [DOCS, PAIRS]
WORDS = ["oil", "gas", "water", "sand", "clay", "dry"]


def document(rng: random.Random, key: str, n: int) -> dict[str, Any]:
    return {
        "id": key,
        "n": n,
        "kind": rng.choice("abc"),
        "name": key,
        "tags": rng.sample(WORDS, 2),
        "text": " ".join(rng.choices(WORDS, k=4)),
    }


def one_step(db: hp.Database, rng: random.Random, me: str, n: int) -> int:
    """Some write → by how much it raised the shared counters."""
    docs, pairs = db[DOCS], db[PAIRS]

    async def forward(tx: hp.Tx) -> None:
        await tx[DOCS].patch("counter", n=(await tx[DOCS].get("counter"))["n"] + 1)
        await tx[PAIRS].patch("counter", n=(await tx[PAIRS].get("counter"))["n"] + 1)

    async def backward(tx: hp.Tx) -> None:
        await tx[PAIRS].patch("counter", n=(await tx[PAIRS].get("counter"))["n"] + 1)
        await tx[DOCS].patch("counter", n=(await tx[DOCS].get("counter"))["n"] + 1)

    kind = n % 8
    if kind == 0:
        docs.put(document(rng, f"{me}-{n % 40}", n))
    elif kind == 1:
        docs.put_many([document(rng, f"{me}-m{n % 3}-{i}", n) for i in range(8)])
    elif kind == 2:
        with db.transaction():  # both counters or neither, and the halves of a pair
            for collection in BOTH:
                db[collection].update("counter", lambda doc: {**doc, "n": doc["n"] + 1})
            pairs.put({"id": f"{me}-left", "n": n})
            pairs.put({"id": f"{me}-right", "n": n})
        return 1
    elif kind == 3:
        db.run(forward)
        return 1
    elif kind == 4:
        db.run(backward)
        return 1
    elif kind == 5:
        docs.where(hp.F.name.starts_with(f"{me}-m")).limit(5).patch(n=n)
    elif kind == 6:
        docs.delete_many([f"{me}-{i}" for i in range(n % 40, n % 40 + 3)])
    else:
        try:
            docs.patch(f"{me}-{(n - 7) % 40}", {"tags": [rng.choice(WORDS)], "text": rng.choice(WORDS)})
        except hp.NotFound:
            pass
    return 0


def write(path: str, me: str, steps: int, go: Event, results: Any) -> None:
    """→ (me, how often counted, what was raised, the longest step in seconds)"""
    rng = random.Random(me)
    counted, errors, longest, n = 0, [], 0.0, 0
    with hp.open(path, collections=BOTH) as db:
        results.put("ready")
        go.wait()
        for n in range(steps):
            began = time.perf_counter()
            try:
                counted += one_step(db, rng, me, n)
            except Exception as error:  # noqa: BLE001 - reported
                errors.append(repr(error))
            longest = max(longest, time.perf_counter() - began)
    results.put((me, counted, errors, longest))


def write_for(path: str, me: str, seconds: float, go: Event, results: Any) -> None:
    """→ (me, how many steps)"""
    with hp.open(path, collections=BOTH) as db:
        results.put("ready")
        go.wait()
        end = time.monotonic() + seconds
        n = 0
        while time.monotonic() < end:
            db[PAIRS].put({"id": me, "n": n})
            n += 1
    results.put((me, n))


def read(path: str, me: str, go: Event, stop: Event, results: Any) -> None:
    """→ (me, how many reads, what was wrong)"""
    wrong: list[str] = []
    count = 0

    with hp.open(path, collections=BOTH) as db:
        results.put("ready")
        go.wait()
        while not stop.is_set():
            try:
                found = db[DOCS].where(hp.F.tags.contains("oil")).limit(20).all()
                if any("oil" not in doc["tags"] for doc in found):
                    wrong.append("a document that is not in the index")
                pairs = db[PAIRS].where(hp.F.id.any_of(["w1-left", "w1-right"])).all()
                if len({doc["n"] for doc in pairs}) > 1:
                    wrong.append(f"half a transaction: {pairs}")
            except Exception as error:  # noqa: BLE001 - reported
                wrong.append(repr(error))
            count += 1
            time.sleep(0.005)
    results.put((me, count, wrong))


def write_until_killed(path: str, me: str, started: Any) -> None:
    rng = random.Random(time.time_ns())
    with hp.open(path, collections=BOTH) as db:
        n = rng.randrange(1000)
        while True:
            one_step(db, rng, me, n)
            n += 1
            if not started.is_set():
                started.set()


def acknowledge_until_killed(path: str, me: str, notes: str) -> None:
    """Whatever was acknowledged is noted at once, by a write that a kill cannot lose."""
    rng = random.Random(time.time_ns())
    out = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with hp.open(path, collections=BOTH, durability=rng.choice(["full", "relaxed"])) as db:
        docs, pairs = db[DOCS], db[PAIRS]
        alone = {**document(rng, "alone", 1), "n": 1}
        while True:
            key = f"{me}-{rng.getrandbits(60):x}"
            match rng.randrange(4):
                case 0:
                    docs.put(document(rng, key, 1))
                    os.write(out, f"{key}\n".encode())
                case 1:
                    docs.put_many([document(rng, f"{key}.{n}", n) for n in range(5)])
                    os.write(out, "".join(f"{key}.{n}\n" for n in range(5)).encode())
                case 2:
                    docs.update("alone", lambda doc: {**doc, "n": doc["n"] + 1}, default=alone)
                    os.write(out, b"+1\n")
                case _:
                    with db.transaction():  # both counters or neither
                        for counted in (docs, pairs):
                            counted.update("counter", lambda doc: {**doc, "n": doc["n"] + 1})
                    os.write(out, b"+2\n")


def increment(path: str, times: int) -> None:
    with hp.open(path, collections=BOTH) as db:
        for _ in range(times):
            db[PAIRS].update("counter", lambda doc: {**doc, "n": doc["n"] + 1})


def fill(path: str) -> None:
    with hp.open(path, collections=BOTH) as db:
        for collection in BOTH:
            db[collection].put({"id": "counter", "n": 0, "tags": [], "text": "", "name": "counter"})


def faults(path: str) -> list[str]:
    """What is wrong with a file: by SQLite, and by every index against a walk over the documents."""
    wrong: list[str] = []
    with hp.open(path, collections=BOTH) as db:
        wrong += db._driver.engine.store.check()  # type: ignore[attr-defined]
        docs = db[DOCS]
        every = docs.all()
        if len(every) != docs.count() or len(every) != len(docs.keys()):
            wrong.append("count")

        def same(what: str, query: Any, test: Any) -> None:
            found = sorted(doc["id"] for doc in query.all())
            wanted = sorted(doc["id"] for doc in every if test(doc))
            if found != wanted:
                wrong.append(f"{what}: {found} instead of {wanted}")

        for word in WORDS:
            same(f"tags {word}", docs.where(hp.F.tags.contains(word)), lambda doc: word in doc["tags"])
            same(
                f"text {word}",
                docs.where(hp.F.text.matches(word)),
                lambda doc: word in doc["text"].split(),
            )
        for kind in "abc":
            same(kind, docs.where(hp.F.kind == kind, hp.F.n >= 0), lambda doc: doc.get("kind") == kind)
        for doc in every:
            same("name", docs.where(hp.F.name == doc["name"]), lambda other: other["name"] == doc["name"])
        if len({doc["name"] for doc in every}) != len(every):
            wrong.append("a unique name twice")
        if db[DOCS].get("counter")["n"] != db[PAIRS].get("counter")["n"]:
            wrong.append("half a transaction")
        for left in db[PAIRS].where("id").starts_with("").all():
            if left["id"].endswith("-left"):
                right = db[PAIRS].get(left["id"].replace("left", "right"))
                if right is None or right["n"] != left["n"]:
                    wrong.append(f"half a pair: {left} {right}")
    return wrong
