"""The IndexedDB store and the browser's driver, under Pyodide in Node on npm's fake-indexeddb."""

from __future__ import annotations

from typing import Any

import pytest

from homeport.testing import conformance
from tests.facade import cases, shared
from tests.portable import inside, pyodide

pytestmark = pytest.mark.xdist_group("pyodide")


def test_the_store_passes_the_conformance_suite() -> None:
    found = pyodide.run("inside_indexeddb.suite")["stores"]
    assert found["failed"] == {}
    assert found["ran"] == len(conformance.cases(inside.TABLE))


@pytest.fixture(scope="module")
def everything() -> Any:
    return pyodide.run("inside_indexeddb.everything")


def test_the_asyncio_facade_passes_its_cases_and_finds_what_it_wrote(everything: Any) -> None:
    found = everything["facade"]
    assert found["asyncio"]["failed"] == {}
    assert found["asyncio"]["ran"] == len(shared.checks(cases))
    assert found["blocking"]["failed"] == {}, "Python suspended until IndexedDB has answered"
    assert found["blocking"]["ran"] == len(shared.checks(cases))
    assert found["blocks"] == ["TransactionError", "TransactionError"]
    assert found["callback"][0] == "UsageError"
    assert "open_async" in found["callback"][1]
    assert found["kept"]
    text = '{"id":"kept","n":1.0,"b":{"c":["\U0001f600",null,9007199254740992]}}'
    assert found["size"] == [len(text.encode()), len(text.encode()), "IndexedDB"]
    assert found["refused"] == ["ReadOnly", "Closed"]
    assert found["block"][0] == "TransactionError"


def test_a_plan_of_several_steps_is_one_transaction(everything: Any) -> None:
    found = everything["plans"]
    assert found["log"] == ['{"id":"a","n":0}', ["d", "c"], ["sum"], 5, "InvalidKey"]
    assert found["result"] == '{"id":"sum","n":2}'
    assert found["begun"] == {"readonly": 0, "readwrite": 1}
    assert [found["failed"], found["cancelled"], found["lost"]] == ["on purpose", True, None]


def test_two_tabs_lose_no_update_and_follow_a_change_of_indexes(everything: Any) -> None:
    found = everything["tabs"]
    assert found["total"] == 40
    assert found["found"] == [["a"], ["a"], ["b699", "b697"], 5]
    assert found["kept"]
    assert found["refused"] == "SchemaMismatch"
    assert found["hinted"] == ["seen"], "a live query hears of a commit in another tab"
    assert found["twins"] == ["DuplicateValues", 1, "UsageError"], "refused, and nothing has changed"
    assert found["empty"] == 0


def test_faults_of_the_browser_are_typed_and_lose_nothing(everything: Any) -> None:
    assert everything["faults"] == {
        "full": "QuotaExceeded",
        "keys": ["after", "before"],
        "older": ["d19", "d18", "d17"],
        "nowhere": "StorageRefused",
        "given up": [1, 1, 1, 1, 1],
        "empty": 1,
        "faulty 2": ["IndexedDB", 4],
        "faulty 1000": ["StorageRefused", 3],
    }


def test_what_has_expired_is_removed_by_one_connection(everything: Any) -> None:
    assert everything["cleaned"] == ["one"]


def test_what_is_read_whole_comes_in_pieces(everything: Any) -> None:
    assert everything["pieces"]


def test_gets_of_one_moment_go_together(everything: Any) -> None:
    assert_together(everything["together"])


def assert_together(found: Any) -> None:
    assert found["readonly"] <= 8, "1,460 reads of two collections"
    assert found["right"]
    assert found["own"] == [1] * 4
    assert found["cancelled"] == [5]
    assert found["others"] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert found["after"] == 33
    assert found["broken"] == [0, 1, 2, 33, 4, 5, 6, "Corrupted", 8, 9]
    assert found["closing"] == [0, 1, 2, 33, *range(4, 20)]


def test_what_is_kept_in_memory_is_never_stale() -> None:
    found = pyodide.run("inside_cache.coherence")
    assert found["served"] >= 4, "what nobody has changed is not read again"
    assert found["bounded"]


def test_a_connection_that_is_alone_asks_nothing() -> None:
    found = pyodide.run("inside_alone.lone")
    assert found["begun"] == {"readonly": 0, "readwrite": 0}
    assert found["own"] == [2, 11, 2], "its own commit is seen, what was undone is not"
    assert found["theirs"] == [4, False, None], "another connection's commit is seen at once"
    assert found["last"] == [4, None, 10]


def guessed(found: Any) -> None:
    assert found["right"] == [{"added": 1, "undone": 0}, [2, 1]], "the first is read, the others are not"
    assert found["there"] == [2, True], "a document that was there is no new one"
    assert found["between"] == [44], "another connection has written"
    assert found["theirs"] == [85, 3]
    assert found["deleted"] == [1]
    assert found["gathered"] == [20]
    assert found["cancelled"][0], "whole or not at all"
    assert found["declared"] == '["other"]', "a declaration of another connection is noticed"


def test_a_write_that_took_something_for_granted_is_right() -> None:
    guessed(pyodide.run("inside_guess.by_hand"))


def test_writes_of_two_connections_count_their_versions() -> None:
    found = pyodide.run("inside_guess.at_random")
    assert found["added"] > 0
    assert found["undone"] > 0
