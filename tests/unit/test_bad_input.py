"""R26: whatever is passed to whatever the facade offers, the answer is a result or a typed error that
says what to do; never an error of Python, and never half a write."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import homeport as hp
from homeport.errors import HomeportError

DOCS = hp.Collection("docs", indexes=["n", hp.Multi("tags"), hp.FullText("t")])
BAD: list[Any] = [
    None, True, 5, -1, 2.5, float("nan"), float("inf"), 10**400, "", "x", "a..b", "\ud800", "\x00", b"x",
    [], [1], (), {}, {"a": 1}, {1: 2}, {1, 2}, object(), hp.F, hp.F.a, hp.F.a == 1, ..., DOCS,
]  # fmt: skip
GOOD: dict[str, Any] = {
    "key": "a", "document": {"id": "z"}, "fn": lambda doc: doc, "changes": {"n": 1}, "lower": 1, "upper": 2,
    "field": "n", "documents": [{"id": "zz"}], "keys": ["a"], "predicate": lambda doc: True, "rows": 1, "value": 1,
    "prefix": "x", "ranges": [(1, 2)], "patches": {}, "text": "hi", "size": 2, "collection": "docs",
}  # fmt: skip
# What ends the database, waits for a network, or is given a function that is called much later.
APART = {"close", "sync", "transaction", "on_commit"}


def make(db: Any) -> dict[str, Any]:
    docs = db[DOCS]
    return {
        "docs": docs, "query": docs.where(hp.F.n > 0), "where": docs.where("n"), "entries": docs.where("tags"),
        "groups": docs.group_by("n"), "db": db,
    }  # fmt: skip


def names() -> list[tuple[str, str]]:
    with hp.open(":memory:", collections=[DOCS]) as db:
        return [
            (label, name)
            for label, thing in make(db).items()
            for name in sorted(dir(thing))
            if not name.startswith("_") and name not in APART and callable(getattr(thing, name))
        ]


def calls(method: Any) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """Every parameter once with everything bad, the others good."""
    parameters = inspect.signature(method).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [GOOD.get(p.name, 1) for p in positional if p.default is p.empty]
    several = any(p.kind == p.VAR_POSITIONAL for p in parameters)
    for bad in BAD:
        for place in range(len(positional)):
            given = [*required[:place], *(GOOD.get(p.name, 1) for p in positional[len(required) : place]), bad]
            yield [*given, *required[place + 1 :]], {}
        if several:
            yield [bad], {}
            yield [bad, bad], {}
        for p in parameters:
            if p.kind == p.KEYWORD_ONLY:
                yield required, {p.name: bad}
            if p.kind == p.VAR_KEYWORD and method.__name__ not in ("run", "read"):
                yield required, {"any": bad}


@pytest.fixture(scope="module", params=["memory", "file"])
def db(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[hp.Database]:
    path = ":memory:" if request.param == "memory" else tmp_path_factory.mktemp("bad") / "a.db"
    with hp.open(path, collections=[DOCS], durability="relaxed") as db:
        yield db


def consume(result: Any) -> None:
    if hasattr(result, "__next__") or hasattr(result, "__anext__"):
        close = getattr(result, "close", None)
        if close is None or inspect.isgenerator(result):
            list(islice(result, 2))
        else:
            close()
    elif isinstance(result, hp.Query):
        result.all()


def refused(call: Any) -> str | None:
    """The complaint about a call, None when it was answered well."""
    try:
        call()
    except HomeportError as error:
        return None if error.action and error.message else f"{error!r} does not say what to do"
    except Exception as error:
        return ascii(f"{type(error).__name__}: {error}")
    return None


@pytest.mark.parametrize(("label", "name"), names())
def test_r26_no_argument_gets_an_error_of_python(
    db: hp.Database, label: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    docs = db[DOCS]
    docs.put_many([{"id": "a", "n": 1, "tags": ["x"], "t": "hi"}, {"id": "b", "n": "2"}])
    method = getattr(make(db)[label], name)
    complaints = [
        f"{name}{ascii(tuple(args)):.100} {ascii(options):.100}: {complaint}"
        for args, options in calls(method)
        if (complaint := refused(lambda: consume(method(*args, **options)))) is not None
    ]
    assert not complaints, "\n".join(complaints[:5])
    assert isinstance(docs.count(), int)  # the database still works


@pytest.mark.parametrize(("label", "name"), names())
async def test_r26_no_argument_gets_an_error_of_python_on_a_loop(
    label: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with hp.open_async(":memory:", collections=[DOCS]) as db:
        await db[DOCS].put_many([{"id": "a", "n": 1, "tags": ["x"], "t": "hi"}, {"id": "b", "n": "2"}])
        method = getattr(make(db)[label], name)
        for args, options in calls(method):
            try:
                result = method(*args, **options)
                if inspect.isawaitable(result):
                    await asyncio.wait_for(result, 5)
                elif isinstance(result, hp.AsyncQuery):
                    await result.all()
            except HomeportError as error:
                assert error.action
                assert error.message
            except Exception as error:
                pytest.fail(f"{name}{ascii(tuple(args)):.100} {ascii(options):.100}: {ascii(error)}")


@pytest.mark.parametrize("option", ["path", "collections", "durability", "readonly", "busy_timeout_s", "cache_mb"])
def test_r26_open(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def on_a_loop(**given: Any) -> None:
        db = await hp.open_async(**given)
        await db.close()

    for bad in BAD:
        given: dict[str, Any] = {"path": ":memory:", "collections": [DOCS], option: bad}
        assert refused(lambda: hp.open(**given).close()) is None, ascii(bad)
        assert refused(lambda: asyncio.run(on_a_loop(**given))) is None, ascii(bad)


@pytest.mark.parametrize(
    "make_one",
    [
        *(lambda bad, option=option: hp.Collection(**{"name": "c", option: bad}) for option in (
            "name", "model", "key", "indexes", "schema", "sync", "ttl_s", "track_changes", "key_generator")),
        hp.Index, hp.Multi, hp.Unique, hp.FullText, hp.fields, hp.F.__getitem__, hp.F.a.__getitem__,
        *(getattr(hp.F.a, name) for name in (
            "__eq__", "__ne__", "__lt__", "__and__", "__or__", "any_of", "none_of", "starts_with", "contains",
            "matches", "contains_any", "contains_all", "has_element", "has_size", "has_type", "regex")),
        lambda bad: hp.F.a.between(bad, 1), lambda bad: hp.F.a.regex("x", bad),
        lambda bad: (hp.F.a == 1) & bad, lambda bad: (hp.F.a == 1) | bad,
        *(getattr(hp.agg, name) for name in ("count", "sum", "avg", "min", "max", "count_distinct")),
    ],
)  # fmt: skip
def test_r26_declarations_and_conditions(make_one: Any) -> None:
    for bad in BAD:
        assert refused(lambda: make_one(bad)) is None, ascii(bad)


def test_r26_brackets_and_functions(db: hp.Database) -> None:
    for bad in BAD:
        for wrong in (lambda: db[bad], lambda: bad in db[DOCS]):
            if bad is DOCS:
                continue  # that one is right
            with pytest.raises(HomeportError):
                wrong()
        with pytest.raises(hp.errors.UsageError, match="takes a function"):
            db.on_commit(bad)


@pytest.mark.parametrize("option", ["url", "token", "collections", "max_queue", "live", "poll_s"])
def test_r26_sync_refuses_before_it_touches_the_queue(option: str, tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[DOCS]) as db:
        for bad in BAD:
            given: dict[str, Any] = {"url": "http://127.0.0.1:1", "token": "t", option: bad}
            assert refused(lambda: db.sync(**given)) is None, ascii(bad)
        db[DOCS].put({"id": "a"})
        assert db[DOCS].count() == 1
