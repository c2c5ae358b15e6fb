"""Merge types: fields that combine by meaning (D4), on the device, with real stores."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeport as hp
from homeport.core.diff import MISSING, parse
from homeport.core.mergetypes import type_of
from homeport.core.textmerge import edits, merge_texts
from homeport.errors import SchemaError

from .device import Device
from .model import ModelServer

numbers = st.integers(-1000, 1000)
small = st.lists(st.sampled_from("abcdef"), max_size=5, unique=True)
texts = st.text(alphabet="ab cé😀\n", max_size=12)


# -- the types alone


@given(numbers, numbers, numbers)
def test_a_counter_adds_up_what_both_sides_added(base: int, mine: int, theirs: int) -> None:
    merged = hp.Counter().merge(base, mine, theirs)
    assert merged is not None
    assert merged.value - base == (mine - base) + (theirs - base)


def test_a_counter_begins_at_nothing_and_keeps_fractions_exact() -> None:
    counter = hp.Counter()
    assert counter.merge(MISSING, 2, 3).value == 5
    assert counter.merge(None, 2, MISSING).value == 2
    assert counter.merge(0.1, 0.3, 0.2).value == pytest.approx(0.4)
    assert counter.merge(0.1, 0.1 + 0.2, 0.1).value == 0.1 + 0.2
    for odd in ("3", True, None, MISSING, [1]):
        assert counter.merge(1, odd, 2) is None
    assert counter.merge(0, 2**53, 2**53) is None


@given(small, small, small)
def test_a_set_keeps_additions_and_drops_removals(base: Any, mine: Any, theirs: Any) -> None:
    merged = hp.SetOf().merge(base, mine, theirs)
    added = (set(mine) | set(theirs)) - set(base)
    left = set(base) & set(mine) & set(theirs)
    assert set(merged.value) == added | left
    assert len(merged.value) == len(set(merged.value))


def test_elements_of_a_set_are_compared_as_json() -> None:
    merged = hp.SetOf().merge([{"a": 1, "b": 2}], [{"b": 2, "a": 1}, 1], [{"a": 1, "b": 2}, True])
    assert merged.value == [{"a": 1, "b": 2}, True, 1]


def test_a_list_merges_its_elements_one_by_one() -> None:
    rows = hp.ListOf("id")
    base = [{"id": 1, "t": "a"}, {"id": 2, "t": "b"}, {"id": 3, "t": "c"}]
    mine = [{"id": 1, "t": "A"}, {"id": 4, "t": "d"}, {"id": 3, "t": "c", "n": 1}]
    theirs = [{"id": 1, "t": "a", "n": 9}, {"id": 2, "t": "b"}, {"id": 5, "t": "e"}, {"id": 3, "t": "C"}]
    merged = rows.merge(base, mine, theirs)
    assert merged.value == [
        {"id": 1, "t": "A", "n": 9},
        {"id": 5, "t": "e"},
        {"id": 4, "t": "d"},
        {"id": 3, "t": "C", "n": 1},
    ]
    assert merged.clashes == []


def test_a_list_says_where_both_sides_wanted_something_else() -> None:
    merged = hp.ListOf("id").merge([{"id": "x", "t": 0}], [{"id": "x", "t": 1}], [{"id": "x", "t": 2}])
    assert merged.value == [{"id": "x", "t": 1}]
    assert merged.clashes == ['["x"].t']


def test_an_edited_element_outlives_its_removal() -> None:
    merged = hp.ListOf("id").merge([{"id": 1}, {"id": 2}], [{"id": 2}], [{"id": 1, "t": 1}, {"id": 2}])
    assert merged.value == [{"id": 1, "t": 1}, {"id": 2}]
    merged = hp.ListOf("id").merge([{"id": 1}, {"id": 2}], [{"id": 2}], [{"id": 1}, {"id": 2, "t": 1}])
    assert merged.value == [{"id": 2, "t": 1}]


def test_a_move_of_one_side_is_kept() -> None:
    assert hp.ListOf(None).merge(list("abc"), list("cab"), list("abcd")).value == list("cdab")
    assert hp.ListOf(None).merge(list("abc"), list("abxc"), list("cba")).value == list("cbxa")


@given(small, small, small)
def test_no_element_of_a_list_is_lost_or_doubled(base: Any, mine: Any, theirs: Any) -> None:
    merged = hp.ListOf(None).merge(base, mine, theirs).value
    assert len(merged) == len(set(merged))
    assert set(merged) == ((set(mine) | set(theirs)) - set(base)) | (set(base) & set(mine) & set(theirs))
    assert hp.ListOf(None).merge(base, base, theirs).value == theirs
    if set(mine) == set(base) == set(theirs) and theirs == base:
        assert merged == mine


@pytest.mark.parametrize("odd", [["a", "a"], "ab", [{"x": 1}], [{"id": None}]])
def test_a_list_without_identities_is_left_to_the_rule_of_fields(odd: Any) -> None:
    assert hp.ListOf("id").merge([], odd, []) is None


def test_max_and_min_compare_within_one_kind() -> None:
    assert hp.Max().merge(1, 5, 3).value == 5
    assert hp.Min().merge(1, 5, 3.5).value == 3.5
    assert hp.Max().merge("", "2026-02-01", "2026-01-31").value == "2026-02-01"
    for a, b in ((1, "1"), (True, 2), (None, 1), ([1], [2])):
        assert hp.Max().merge(0, a, b) is None


@given(texts, texts, texts)
@settings(max_examples=150)
def test_texts_are_merged_the_same_everywhere(base: str, mine: str, theirs: str) -> None:
    merged = merge_texts(base, mine, theirs)
    assert merged == merge_texts(base, mine, theirs)
    assert merge_texts(base, mine, base) == mine
    assert merge_texts(base, base, theirs) == theirs
    for letter in set(mine) - set(base) | set(theirs) - set(base):
        assert letter in merged


@given(texts, texts)
def test_edits_lead_from_one_text_to_the_other(base: str, changed: str) -> None:
    text = base.encode()
    for edit in reversed(edits(base, changed)):
        text = text[: edit.start] + edit.text.encode() + text[edit.end :]
    assert text.decode() == changed


def test_two_people_write_into_one_paragraph() -> None:
    base = "The pump leaks. It was serviced in May."
    mine = "The main pump leaks. It was serviced in May."
    theirs = "The pump leaks. It was serviced in May and in July. Order a seal."
    assert merge_texts(base, mine, theirs) == (
        "The main pump leaks. It was serviced in May and in July. Order a seal."
    )


def test_a_large_difference_is_one_replacement_and_quick() -> None:
    words = " ".join(str(n) for n in range(4_000))
    other = " ".join(str(-n) for n in range(4_000))
    assert len(edits(words, other)) == 1


@pytest.mark.parametrize(
    "kind", [hp.Counter(), hp.SetOf(), hp.ListOf("no"), hp.ListOf(None), hp.Max(), hp.Min(), hp.Text()]
)
def test_a_type_survives_the_wire(kind: Any) -> None:
    assert type_of(kind.spec) == kind
    assert type_of(kind.spec + "?") is None or kind.spec.startswith("list:")


# -- the declaration


class Well(msgspec.Struct, rename="camel"):
    id: str
    visit_count: int = 0
    tags: list[str] = []


def test_fields_are_declared_by_the_names_of_the_model() -> None:
    wells = hp.Collection("wells", Well, sync=hp.Synced(fields={"visit_count": hp.Counter()}))
    assert wells.sync is not None
    assert dict(wells.sync.fields) == {"visitCount": hp.Counter()}
    assert "Counter()" in repr(wells.sync)


@pytest.mark.parametrize(
    "make",
    [
        lambda: hp.Synced("manual", fields={"a": hp.Counter()}),
        lambda: hp.Synced(fields={"a": 3}),  # type: ignore[dict-item]
        lambda: hp.Synced(fields={"a": "counters"}),
        lambda: hp.Synced(fields={"": hp.Counter()}),
        lambda: hp.Synced(fields={"a": hp.Counter(), "a.b": hp.Max()}),
        lambda: hp.Synced(fields=["a"]),  # type: ignore[arg-type]
        lambda: hp.Collection("wells", Well, sync=hp.Synced(fields={"visits": hp.Counter()})),
        lambda: hp.ListOf("a.b"),
    ],
)
def test_a_wrong_declaration_is_refused(make: Any) -> None:
    with pytest.raises(SchemaError):
        make()


# -- devices

FIELDS = {
    "hits": hp.Counter(),
    "tags": hp.SetOf(),
    "log": hp.ListOf("id"),
    "top": hp.Max(),
    "note": hp.Text(),
    "owner": "remote-wins",
}


def world(clients: int = 2, **fields: Any) -> tuple[ModelServer, list[Device]]:
    kinds = fields or FIELDS
    wells = hp.Collection("wells", sync=hp.Synced(fields=kinds))
    assert wells.sync is not None
    server = ModelServer(
        {"wells": ("merge", "delete-wins"), "_resolutions": ("merge", "delete-wins")},
        fields={"wells": {path: kind.spec for path, kind in wells.sync.fields.items()}},
    )
    return server, [Device(server, wells, name=f"d{n}") for n in range(clients)]


def settle(devices: list[Device]) -> None:
    for _ in range(4):
        for device in devices:
            device.sync()


def test_both_sides_of_every_type_are_in_the_result() -> None:
    server, (a, b) = world()
    a.put(
        {"id": "w", "hits": 1, "tags": ["x", "y"], "log": [{"id": 1, "t": "a"}], "top": 5,
         "note": "one two", "owner": "none", "plain": 0}
    )  # fmt: skip
    settle([a, b])
    a.patch("w", hits=3, tags=["y", "z"], log=[{"id": 1, "t": "a"}, {"id": 2}], top=9, note="one TWO",
            owner="a", plain=1)  # fmt: skip
    b.patch("w", hits=2, tags=["x", "y", "q"], log=[{"id": 3}, {"id": 1, "t": "b"}], top=7,
            note="zero one two", owner="b", plain=2)  # fmt: skip
    settle([a, b])
    assert a.get("w") == b.get("w") == server.state("wells")["w"]
    found = a.get("w")
    assert found == {
        "id": "w", "hits": 4, "tags": ["y", "z", "q"], "log": [{"id": 3}, {"id": 1, "t": "b"}, {"id": 2}],
        "top": 9, "note": "zero one TWO", "owner": "a", "plain": 2,
    }  # fmt: skip
    [record] = [r for r in server.state("_resolutions").values()]
    assert sorted(record["fields"]) == ["owner", "plain"]


def test_equal_increments_are_two_increments() -> None:
    server, (a, b) = world()
    a.put({"id": "w", "hits": 1})
    settle([a, b])
    a.patch("w", hits=2)
    b.patch("w", hits=2)
    settle([a, b])
    assert server.state("wells")["w"]["hits"] == 3
    assert server.state("_resolutions") == {}


def test_an_older_program_follows_the_types_of_the_server() -> None:
    server, (a, _) = world()
    older = Device(server, hp.Collection("wells"), name="older")
    a.put({"id": "w", "hits": 1})
    settle([a, older])
    a.patch("w", hits=11)
    older.patch("w", hits=6)
    settle([a, older])
    assert older.get("w") == a.get("w") == {"id": "w", "hits": 16}


def test_a_counter_inside_an_object_that_both_created() -> None:
    server, (a, b) = world(**{"stats.hits": hp.Counter()})
    a.put({"id": "w"})
    settle([a, b])
    a.patch("w", **{"stats": {"hits": 2, "by": "a"}})
    b.patch("w", **{"stats": {"hits": 5}})
    settle([a, b])
    assert server.state("wells")["w"]["stats"]["hits"] == 7
    assert a.get("w") == b.get("w")


steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["count", "add", "drop", "push", "raise", "sync", "sync", "lose", "reopen"]),
        st.integers(1, 9),
    ),
    max_size=30,
)


@given(steps)
@settings(max_examples=120)
def test_r07_no_increment_is_lost_or_doubled_in_any_interleaving(history: Any) -> None:
    server, devices = world(3)
    devices[0].put({"id": "w", "hits": 0, "tags": [], "log": [], "top": 0})
    settle(devices)
    total, pushed, tops = 0, [], [0]
    for n, (who, kind, value) in enumerate(history):
        device = devices[who]
        doc = device.get("w")
        if kind == "count":
            total += value
            device.patch("w", hits=doc["hits"] + value)
        elif kind == "add":
            device.patch("w", tags=[*doc["tags"], f"t{n}"])
        elif kind == "drop" and doc["tags"]:
            device.patch("w", tags=doc["tags"][1:])
        elif kind == "push":
            pushed.append(n)
            device.patch("w", log=[*doc["log"], {"id": n, "by": who}])
        elif kind == "raise":
            tops.append(value)
            device.patch("w", top=max(doc["top"], value))
        elif kind == "sync":
            device.sync()
        elif kind == "lose":
            device.round(lose=True)
        elif kind == "reopen":
            device.reopen()
    settle(devices)
    states = [device.get("w") for device in devices]
    assert states[0] == states[1] == states[2] == server.state("wells")["w"]
    assert states[0]["hits"] == total
    assert sorted(item["id"] for item in states[0]["log"]) == pushed
    assert states[0]["top"] == max(tops)
    assert len(states[0]["tags"]) == len(set(states[0]["tags"]))
