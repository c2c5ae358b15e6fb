"""Plans of reads and writes on scripted answers: which requests they make, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

import homeport as hp
from homeport.core import operations, updates, writes
from homeport.core.codec import Table
from homeport.core.query import EMPTY
from homeport.core.requests import Delete, DeleteWhere, Find, Get, GetMany, PartResult, Put, Write
from homeport.drivers.replay import replay
from homeport.errors import (
    BulkError,
    InvalidDocument,
    InvalidKey,
    InvalidQuery,
    KeyExists,
    NotFound,
    UsageError,
)

PLAIN = Table(hp.Collection("plain"))


def new_key() -> str:
    return "made"


def test_get_is_one_request() -> None:
    result, [request] = replay(operations.get(PLAIN, "a", None), '{"id":"a"}')
    assert result == {"id": "a"}
    assert isinstance(request, Get)
    assert replay(operations.get(PLAIN, "a", 7), None)[0] == 7


def test_get_of_no_key_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InvalidKey):
        operations.get(PLAIN, None, None)  # type: ignore[arg-type]


def test_put_of_an_unsynced_collection_is_one_write_and_reads_nothing() -> None:
    result, [request] = replay(writes.put(PLAIN, {"id": "a"}, new_key), [PartResult(["a"])])
    assert result == "a"
    assert isinstance(request, Write)
    [part] = request.parts
    assert isinstance(part, Put)
    assert part.olds is None


def test_put_makes_a_key() -> None:
    _, [request] = replay(writes.put(PLAIN, {"n": 1}, new_key), [PartResult(["made"])])
    assert request.parts[0].rows[0][1] in ('{"n":1,"id":"made"}', '{"id":"made","n":1}')


def test_put_raises_the_failure_of_its_row() -> None:
    refused = [PartResult([None], {0: KeyExists("there")})]
    with pytest.raises(KeyExists):
        replay(writes.put(PLAIN, {"id": "a"}, new_key, "add"), refused)


def test_bulk_failures_carry_the_callers_positions() -> None:
    docs: list[Any] = [{"id": "a"}, {"id": float("nan")}, {"id": "c"}, {"id": "d"}]
    answer = [PartResult(["a", None, "d"], {1: KeyExists("there")})]
    with pytest.raises(BulkError) as caught:
        replay(writes.put_many(PLAIN, docs, new_key, "add"), answer)
    error = caught.value
    assert sorted(error.failures) == [1, 2]
    assert isinstance(error.failures[1], (InvalidKey, InvalidDocument))
    assert isinstance(error.failures[2], KeyExists)
    assert error.keys == ["a", None, None, "d"]
    assert "2 of 4 failed" in str(error)


def test_bulk_of_nothing_asks_nothing() -> None:
    assert replay(writes.put_many(PLAIN, [], new_key)) == ([], [])
    assert replay(writes.delete_many(PLAIN, [])) == (0, [])
    assert replay(updates.patch_many(PLAIN, {})) == ([], [])


def test_update_reads_then_writes_and_checks_what_comes_back() -> None:
    def add(doc: dict[str, Any]) -> dict[str, Any]:
        doc["n"] += 1
        return doc

    text = '{"id":"a","n":1}'
    result, [get, write] = replay(updates.update(PLAIN, "a", add), text, [PartResult(["a"])])
    assert result == {"id": "a", "n": 2}
    assert isinstance(get, Get)
    assert isinstance(write, Write)

    with pytest.raises(NotFound):
        replay(updates.update(PLAIN, "a", add), None)
    start = updates.update(PLAIN, "a", add, {"id": "a", "n": 0})
    assert replay(start, None, [PartResult(["a"])])[0] == {"id": "a", "n": 1}
    with pytest.raises(UsageError, match="returned None"):
        replay(updates.update(PLAIN, "a", lambda doc: doc.update(n=2)), text)
    with pytest.raises(InvalidKey, match="changed the key"):
        replay(updates.update(PLAIN, "a", lambda doc: {"id": "b"}), text)
    with pytest.raises(UsageError, match="patch"):
        updates.update(PLAIN, "a", {"n": 2})  # type: ignore[arg-type]


async def coroutine(doc: Any) -> Any:
    return doc


def test_update_with_a_coroutine_function_says_where_it_belongs() -> None:
    with pytest.raises(UsageError, match=r"db\.run"):
        replay(updates.update(PLAIN, "a", coroutine), '{"id":"a"}')


def patched(changes: dict[str, Any], text: str = '{"id":"a","b":{"c":1,"d":2},"l":[1]}') -> Any:
    return replay(updates.patch(PLAIN, "a", changes), text, [PartResult(["a"])])[0]


def test_patch_sets_dotted_paths_and_removes() -> None:
    assert patched({"b.c": 9})["b"] == {"c": 9, "d": 2}
    assert patched({"b.d": hp.REMOVE})["b"] == {"c": 1}
    assert patched({"x.y.z": 1})["x"] == {"y": {"z": 1}}
    assert patched({"b": None})["b"] is None
    assert "b" not in patched({"b": hp.REMOVE})
    assert patched({"nothing": hp.REMOVE}) == {"id": "a", "b": {"c": 1, "d": 2}, "l": [1]}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"id": "b"}, InvalidKey),
        ({"l.0": 1}, InvalidDocument),
        ({"": 1}, InvalidDocument),
        ({"a..b": 1}, InvalidDocument),
        ({"b": 1, "b.c": 2}, InvalidDocument),
        ({"b.c": float("inf")}, InvalidDocument),
        ({"b.c": object()}, InvalidDocument),
        ([("b", 1)], UsageError),
    ],
)
def test_patch_refuses(changes: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        patched(changes)


def test_patch_of_a_missing_document() -> None:
    with pytest.raises(NotFound):
        replay(updates.patch(PLAIN, "a", {"n": 1}), None)


def test_patch_many_reads_once_writes_once_and_joins_patches_of_one_key() -> None:
    patches = [("a", {"x": 1}), ("b", {"x": 1}), ("a", {"y": 2}), ("c", {"id": 1})]
    operation = updates.patch_many(PLAIN, patches)
    with pytest.raises(BulkError) as caught:
        replay(operation, ['{"id":"a"}', None, '{"id":"a"}'], [PartResult(["a"])])
    assert {n: type(e) for n, e in caught.value.failures.items()} == {1: NotFound, 3: InvalidKey}
    assert caught.value.keys == ["a", None, "a", None]
    asked: list[Any] = []

    def written(request: Any) -> Any:
        asked.append(request.parts[0].rows)
        return [PartResult(["a"])]

    operation = updates.patch_many(PLAIN, {"a": {"x": 1}})
    assert replay(operation, ['{"id":"a"}'], written)[0] == ["a"]
    assert [row[1] for row in asked[0]] == ['{"id":"a","x":1}']


def test_delete_of_an_unsynced_collection_reads_nothing() -> None:
    result, [request] = replay(writes.delete(PLAIN, "a"), [PartResult([])])
    assert result == 0
    assert isinstance(request.parts[0], Delete)
    result, [request] = replay(writes.delete_where(PLAIN, EMPTY), ["a", "b"])
    assert result == 2
    assert isinstance(request, DeleteWhere)


def test_predicates_are_asked_before_anything_is_written() -> None:
    query = EMPTY.with_predicate(lambda doc: doc["n"] > 1).with_limit(1)
    entries = [("a", '{"id":"a","n":1}'), ("b", '{"id":"b","n":2}'), ("c", '{"id":"c","n":3}')]
    _, [find, write] = replay(writes.delete_where(PLAIN, query), entries, [PartResult(["b"])])
    assert isinstance(find, Find)
    assert find.query.limit is None, "limit counts what passes, so the store must not cut"
    assert list(write.parts[0].keys) == ["b"]
    assert replay(operations.keys_of(PLAIN, query), entries)[0] == ["b"]
    assert replay(operations.count(PLAIN, query), entries)[0] == 1
    with pytest.raises(InvalidQuery, match="returned None"):
        replay(operations.all_of(PLAIN, EMPTY.with_predicate(print)), entries)


def test_iteration_reads_chunks_behind_the_last_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "CHUNK_ROWS", 2)
    chunks = operations.Chunks(PLAIN, EMPTY.with_order("-n").with_offset(1))
    pages = [
        [("c", '{"id":"c","n":3}'), ("b", '{"id":"b","n":2}')],
        [("a", '{"id":"a"}')],
    ]
    found: list[Any] = []
    positions: list[Any] = []
    for page in pages:
        operation = chunks.next()
        assert operation is not None
        entries, [find] = replay(operation, page)
        positions.append((find.query.after, find.query.offset))
        found += chunks.documents(entries)
    assert [doc["id"] for doc in found] == ["c", "b", "a"]
    assert positions == [(None, 1), ((2, "b"), 0)]
    assert chunks.next() is None


def test_get_many_is_one_request() -> None:
    result, [request] = replay(operations.get_many(PLAIN, ["a", "b"]), ['{"id":"a"}', None])
    assert result == [{"id": "a"}, None]
    assert isinstance(request, GetMany)
