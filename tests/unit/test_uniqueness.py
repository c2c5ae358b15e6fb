"""Unique indexes: bulk writes of any kind on both stores, against rules that can be read off the
result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import homeport as hp
from homeport.errors import BulkError, UniqueViolation

Doc = dict[str, Any]

DOCS = hp.Collection(
    "docs",
    indexes=[hp.Unique("name"), hp.Unique("a", "b"), hp.Multi("codes", unique=True)],
)


@pytest.fixture(params=["memory", "file"])
def docs(request: Any, tmp_path: Path) -> Iterator[hp.Documents[Doc]]:
    path = ":memory:" if request.param == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[DOCS], durability="relaxed") as db:
        yield db[DOCS]


def claims(doc: Doc) -> set[tuple[Any, ...]]:
    """What a document holds, by the words of IndexedDB: what is no key is not in the index."""

    def usable(value: object) -> bool:
        return value is not None and not isinstance(value, dict)

    found: set[tuple[Any, ...]] = set()
    if usable(doc.get("name")):
        found.add(("name", type(doc["name"]) is bool, doc["name"]))
    if usable(doc.get("a")) and usable(doc.get("b")):
        found.add(("ab", doc["a"], doc["b"]))
    if isinstance(doc.get("codes"), list):
        found |= {("codes", code) for code in doc["codes"] if usable(code)}
    return found


def violations(state: dict[Any, Doc]) -> set[tuple[Any, ...]]:
    """Claims that two documents of a state hold."""
    seen: set[tuple[Any, ...]] = set()
    twice: set[tuple[Any, ...]] = set()
    for doc in state.values():
        mine = claims(doc)
        twice |= seen & mine
        seen |= mine
    return twice


def state_of(docs: hp.Documents[Doc]) -> dict[Any, Doc]:
    return {doc["id"]: doc for doc in docs.all()}


def written(docs: hp.Documents[Doc], kind: str, rows: list[Any]) -> dict[int, Any]:
    """Write rows with one call → the error of each position that failed."""
    if kind.startswith("load"):
        report = docs.load(rows, mode="add" if kind == "load add" else "put", on_error="collect")
        assert report.rows == len(rows) - len(report.failures)
        return dict(report.failures)
    try:
        getattr(docs, f"{kind}_many")(rows)
    except BulkError as error:
        return error.failures
    return {}


few = st.sampled_from([None, 1, 2, 3, "x", {}])
document = st.fixed_dictionaries(
    {"id": st.sampled_from(["p", "q", "r", "s", "t"])},
    optional={"name": few, "a": few, "b": few, "codes": st.lists(few, max_size=3) | few},
)
sets = st.dictionaries(
    st.sampled_from(["name", "a", "b", "codes"]), few | st.just(hp.REMOVE), min_size=1
)
batch = (
    st.tuples(st.just("put"), st.lists(document, max_size=6))
    | st.tuples(st.just("add"), st.lists(document, max_size=6))
    | st.tuples(st.sampled_from(["load", "load add"]), st.lists(document, max_size=6))
    | st.tuples(
        st.just("patch"),
        st.lists(st.tuples(st.sampled_from(["p", "q", "r", "s", "t"]), sets), max_size=6),
    )
)


def expected(kind: str, rows: list[Any], state: dict[Any, Doc], failures: Any) -> dict[Any, Doc]:
    """The state after the rows that did not fail, one after the other."""
    state = {key: dict(doc) for key, doc in state.items()}
    for n, row in enumerate(rows):
        if n in failures:
            continue
        if kind == "patch":
            key, changes = row
            for name, value in changes.items():
                if value is hp.REMOVE:
                    state[key].pop(name, None)
                else:
                    state[key][name] = value
        else:
            if kind in ("add", "load add"):
                assert row["id"] not in state
            state[row["id"]] = row
    return state


@settings(max_examples=500)
@given(batches=st.lists(batch, min_size=1, max_size=4))
@example(  # a swap of two values, and of two halves of a compound one
    batches=[
        ("put", [{"id": "p", "name": 1, "a": 1, "b": 1}, {"id": "q", "name": 2, "a": 1, "b": 2}]),
        ("patch", [("p", {"name": 2, "b": 2}), ("q", {"name": 1, "b": 1})]),
    ]
)
@example(  # r's first row takes code 1 once its second is refused; then nothing refuses that any more
    batches=[
        (
            "put",
            [{"id": "r", "codes": [1]}, {"id": "p", "name": 2, "codes": [1]}, {"id": "r", "name": 2}],
        )
    ]
)
def test_bulk_writes_lose_only_the_rows_that_must_go(batches: list[tuple[str, list[Any]]]) -> None:
    with hp.open(":memory:", collections=[DOCS]) as db:
        docs = db[DOCS]
        state: dict[Any, Doc] = {}
        for kind, rows in batches:
            failures = written(docs, kind, rows)
            after = expected(kind, rows, state, failures)
            assert state_of(docs) == after, "what did not fail is written"
            assert not violations(after)
            for n, error in failures.items():
                if isinstance(error, UniqueViolation):
                    # With this row too, the state would break an index: it had to go.
                    more = expected(kind, [rows[n]], after, ()) if "add" not in kind else {
                        **after, rows[n]["id"]: rows[n]
                    }
                    assert violations(more), (n, rows, after)
                    assert error.context["key"] != error.context["other"]
                    assert error.context["index"] in ("name", "a_b", "codes_m")
            state = after


@settings(max_examples=150)
@given(batches=st.lists(batch, min_size=1, max_size=4))
def test_both_stores_refuse_the_same_rows(tmp_path_factory: Any, batches: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("u")
    with (
        hp.open(":memory:", collections=[DOCS]) as memory,
        hp.open(folder / "a.db", collections=[DOCS], durability="relaxed") as file,
    ):
        for kind, rows in batches:
            outcomes = []
            for db in (memory, file):
                failures = written(db[DOCS], kind, rows)
                outcomes.append(
                    (
                        {n: (type(e), e.message, dict(e.context)) for n, e in failures.items()},
                        state_of(db[DOCS]),
                    )
                )
            assert outcomes[0] == outcomes[1]


def test_values_are_swapped_in_one_call_and_not_in_two(docs: hp.Documents[Doc]) -> None:
    docs.put_many([{"id": "p", "name": "one"}, {"id": "q", "name": "two"}])
    docs.patch_many({"p": {"name": "two"}, "q": {"name": "one"}})
    assert [doc and doc["name"] for doc in docs.get_many(["p", "q"])] == ["two", "one"]
    docs.put_many([{"id": "p", "name": "one"}, {"id": "q", "name": "two"}])
    assert [doc and doc["name"] for doc in docs.get_many(["p", "q"])] == ["one", "two"]
    # Within a transaction each call is judged by itself, as in IndexedDB.
    with pytest.raises(UniqueViolation) as caught:
        docs.patch("p", name="two")
    assert caught.value.context == {
        "collection": "docs", "index": "name", "value": "two", "key": "p", "other": "q",
    }  # fmt: skip
    assert "'two'" in str(caught.value)
    assert "'q'" in str(caught.value)


def test_a_whole_rotation_of_many(docs: hp.Documents[Doc]) -> None:
    docs.put_many({"id": str(n), "name": n, "codes": [n]} for n in range(500))
    docs.put_many({"id": str(n), "name": (n + 1) % 500, "codes": [(n + 1) % 500]} for n in range(500))
    assert docs.where(hp.F.name == 0).one()["id"] == "499"
    # One that does not take part breaks the chain behind it, up to the first free value.
    failures = written(
        docs, "patch", [(str(n), {"name": (n + 2) % 500}) for n in range(499)]
    )
    assert len(failures) == 499
    failures = written(
        docs,
        "patch",
        [(str(n), {"name": n + 1000 if n % 100 == 0 else (n + 2) % 500}) for n in range(499)],
    )
    assert sorted(failures) == [n for n in range(401, 499)]


def test_many_rows_that_want_the_same(docs: hp.Documents[Doc]) -> None:
    """Decided in about linear time, whichever way the keys run."""
    for mode in ("add", "put"):
        rows = [{"id": f"{mode}-{n:05d}", "name": mode} for n in range(5_000)]
        failures = written(docs, mode, rows[::-1])
        assert sorted(failures) == list(range(1, 5_000))


def test_r_null_missing_and_objects_are_in_no_index(docs: hp.Documents[Doc]) -> None:
    for value in (None, {}, {"x": 1}):
        docs.put_many({"id": f"{value}{n}", "name": value, "a": 1, "b": value, "codes": value} for n in range(3))
    docs.put_many({"id": f"empty{n}", "codes": [], "a": 7} for n in range(3))
    docs.put_many({"id": f"odd{n}", "codes": [None, {}]} for n in range(3))
    docs.put({"id": "true", "name": True})
    docs.put({"id": "one", "name": 1})
    with pytest.raises(UniqueViolation):
        docs.put({"id": "also one", "name": 1.0})
    with pytest.raises(UniqueViolation):
        docs.put({"id": "also true", "name": True})
    docs.put({"id": "self", "codes": ["c", "c"]})
    with pytest.raises(UniqueViolation, match="codes"):
        docs.put({"id": "other", "codes": ["d", "c"]})


def test_patches_of_one_document_fail_one_by_one(docs: hp.Documents[Doc]) -> None:
    docs.put_many([{"id": "p", "name": 1}, {"id": "q", "name": 2}])
    patches = [("p", {"name": 5}), ("p", {"name": 2, "b": 1}), ("p", {"v": 1})]
    assert sorted(written(docs, "patch", patches)) == [1]
    assert docs.get("p") == {"id": "p", "name": 5, "v": 1}
    # What counts is the end: a name in between that is taken does no harm.
    docs.patch_many([("p", {"name": 2}), ("p", {"name": 7})])
    assert docs.get("p") == {"id": "p", "name": 7, "v": 1}
