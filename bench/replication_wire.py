"""What a change costs on the wire, in bytes, and the database, in statements."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep

import homeport as hp

from bench.byhand import encode
from bench.cities import Cities, Document
from bench.proxies import CountingProxy, host_of, through
from bench.report import Measure
from bench.stage import Node, node

WIRE: hp.Collection[Document] = hp.Collection("wire")
EVENTS: hp.Collection[Document] = hp.Collection("events")
MANY = 500


def wire(supply: Cities, stage: Node, folder: Path) -> list[Measure]:
    """Bytes of both directions, HTTP headers included, for each change; TCP's own headers and the
    first contact are not."""
    one, many = supply.take(1), supply.take(MANY)
    plain = sum(len(encode(document)) for document in many) / MANY
    found: list[Measure] = []

    def row(name: str, count: int, spent: int, reference: float, what: str) -> None:
        found.append(Measure.of(name, f"{count} at once", spent / count, "bytes", what, reference))

    with (
        CountingProxy(*host_of(stage.url)) as proxy,
        hp.open(str(folder / "wire-a.db"), collections=[WIRE]) as a,
        hp.open(str(folder / "wire-b.db"), collections=[WIRE]) as b,
    ):
        url = f"http://127.0.0.1:{proxy.port}"
        push = a.sync(url, token=stage.token, live=False)
        pull = b.sync(url, token=stage.token, live=False)
        for handle in (push, pull, push):
            handle.now()

        def spent(work: Callable[[], object]) -> int:
            before = proxy.bytes()
            work()
            return proxy.bytes() - before

        document = "its JSON"
        idle = spent(push.now)
        found.append(Measure.of("bytes of a pull of nothing", "", idle, "bytes"))
        for documents in (one, many):
            a[WIRE].put_many(documents)
            size = sum(len(encode(each)) for each in documents) / len(documents)
            row("bytes to push a new document", len(documents), spent(push.now), size, document)
            row("bytes to pull a new document", len(documents), spent(pull.now), size, document)
        a[WIRE].patch_many([(each["id"], {"pop": 7}) for each in many])
        row("bytes to push an edit of a field", MANY, spent(push.now), plain, document)
        row("bytes to pull an edit of a field", MANY, spent(pull.now), plain, document)
    return found


def calls(supply: Cities, dsn: str, folder: Path, events: int) -> list[Measure]:
    """Statements that a node sends to PostgreSQL, counted between the two, and requests that the
    device sends to the node, for each change that a user makes. The reference is one call for each:
    what a client without a queue makes."""
    with CountingProxy(*host_of(dsn), postgres=True) as database:
        with node(through(dsn, database.port), folder / "calls") as stage:
            with CountingProxy(*host_of(stage.url)) as network:
                url = f"http://127.0.0.1:{network.port}"
                return _scenarios(supply, database, network, url, stage.token, folder, events)


def _scenarios(
    supply: Cities,
    database: CountingProxy,
    network: CountingProxy,
    url: str,
    token: str,
    folder: Path,
    events: int,
) -> list[Measure]:
    found = []
    with hp.open(str(folder / "calls.db"), collections=[EVENTS]) as db:
        handle = db.sync(url, token=token)
        handle.now()
        documents = db[EVENTS]

        def measured(name: str, count: int, work: Callable[[], object]) -> None:
            before = database.statements, network.requests
            work()
            _settled(handle)
            spent = database.statements - before[0], network.requests - before[1]
            for what, number in zip(("statements", "requests"), spent, strict=True):
                title = f"{what} per change, {name}"
                of = f"{count} changes"
                found.append(Measure.of(title, of, number / count, "", "one for each", 1.0))

        def offline() -> None:
            for document in supply.take(events):
                documents.put(document)
            handle.now()

        def in_turn() -> None:
            """Twenty edits of one document, then of the next: a person at a form."""
            for number in range(events):
                documents.patch(keys[number // 20], {"pop": number})
            handle.now()

        def steadily() -> None:
            for document in supply.take(events // 5):
                documents.put(document)
                sleep(0.02)

        measured("queued offline", events, offline)
        keys = [document["id"] for document in documents.limit(events // 20).all()]
        measured("20 edits of each document, queued offline", events, in_turn)
        handle.start()
        _settled(handle)
        measured("50 a second, online", events // 5, steadily)
        handle.stop()
    return found


def _settled(handle: hp.Sync) -> None:
    """Until nothing waits for the server."""
    deadline = perf_counter() + 60
    while handle.status().queued:
        if perf_counter() > deadline:
            raise AssertionError("calls: the queue does not drain")
        sleep(0.02)
