"""The rebase function and the policies, pure."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.core import diff
from homeport.core.edits import make_entry
from homeport.core.merge import Doc, Group, Rule, rebase
from homeport.core.outbox import Entry, write_json
from homeport.core.schema import MANUAL
from homeport.core.wire import Verdict

names = st.sampled_from("abcd")
scalars = st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["s", "t"]))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(names, inner, max_size=3)),
    max_leaves=4,
)
documents = st.dictionaries(names, values, max_size=4).map(lambda d: {**d, "id": "k"})
states = st.one_of(st.none(), documents)


def entries_for(chain, first_id=1, collection="wells", key="k"):
    """Queue entries for the steps of a chain of states, each a unit of one."""
    made = []
    for before, after in zip(chain, chain[1:]):
        entry = Entry(first_id + len(made), f"{collection}/{key}", collection, key, "put", 1)
        if make_entry(before, after, entry):
            made.append(entry)
    return made


def run(base, remote, chain, rule):
    groups = [Group([e]) for e in entries_for([base, *chain])]
    doc = Doc("wells", "k", base, remote)
    out = rebase({doc.ref: doc}, groups, lambda _: rule)
    return doc, out


def replay(base, entries):
    state = base
    for e in entries:
        state = (
            diff.parse(e.doc) if e.op == "put" else None if e.op == "delete" else diff.apply(state, e.patch)
        )
    return state


policies = st.tuples(
    st.sampled_from(["merge", "last-write-wins", "local-wins", "remote-wins", "manual"]),
    st.sampled_from(["delete-wins", "edit-wins"]),
).map(lambda pair: Rule(*pair))
chains = st.lists(states, max_size=4)


@settings(max_examples=400)
@given(states, states, chains, policies)
def test_rebase_is_deterministic_and_its_entries_give_its_overlay(base, remote, chain, rule):
    doc, out = run(base, remote, chain, rule)
    again, other = run(copy.deepcopy(base), copy.deepcopy(remote), copy.deepcopy(chain), rule)
    assert write_json(out.kept) == write_json(other.kept) and diff.same(doc.cur, again.cur)
    # What is queued, replayed on the new base, is what the user sees.
    assert diff.same(replay(remote, out.kept), doc.cur)
    # Each entry is kept, removed or dead; none twice.
    ids = [e.id for e in (*out.kept, *out.removed)]
    assert sorted(ids) == sorted(set(ids)) == [e.id for e in entries_for([base, *chain])]


@given(states, chains, policies)
def test_an_equal_base_changes_nothing(base, chain, rule):
    doc, out = run(base, copy.deepcopy(base), chain, rule)
    assert diff.same(doc.cur, ([base, *chain])[-1])
    assert not out.logged and not out.held and not out.dead


@given(documents, documents, documents)
def test_disjoint_edits_commute_without_a_record(base, left, right):
    a, b = diff.diff(base, left), diff.diff(base, right)
    if any(diff.overlaps(p, q) for p in a.paths for q in b.paths):
        return
    one, first = run(base, right, [left], Rule())
    two, second = run(base, left, [right], Rule())
    assert diff.same(one.cur, two.cur)
    assert not first.logged and not second.logged


@settings(max_examples=400)
@given(states, states, states, policies)
def test_nothing_is_lost_without_a_record(base, local, remote, rule):
    """After one concurrent change on each side, every changed value of either side is in the
    result, or in a record, or waits for a person."""
    doc, out = run(base, remote, [local], rule)
    if diff.same(base, local) or diff.same(base, remote):
        return
    recorded = out.logged or out.held
    for side in (local, remote):
        if side is None:
            assert doc.cur is None or recorded or diff.same(local, remote)
            continue
        changed = diff.diff(base or {}, side)
        for path in changed.paths:
            wanted = changed.set.get(path, diff.MISSING)
            if not diff.same(diff.get(doc.cur or {}, path), wanted):
                assert recorded, (side, path)
    for _, clash in out.logged:
        assert diff.same(clash.local, local) and diff.same(clash.remote, remote)
        assert diff.same(clash.result, doc.cur)


def group(*entries, unit="U", verdict=None):
    for e in entries:
        e.unit = unit
    return Group(list(entries), verdict)


def docs(**states):
    return {f"wells/{k}": Doc("wells", k, before, after) for k, (before, after) in states.items()}


def entry(number, key, before, after):
    made = Entry(number, f"wells/{key}", "wells", key, "put", 1)
    assert make_entry(before, after, made)
    return made


@pytest.mark.parametrize("policy", ["remote-wins", "manual"])
def test_rule_d_one_lost_member_decides_for_the_whole_unit(policy):
    ground = docs(p=({"n": 10}, {"n": 5}), q=({"n": 0}, {"n": 0}))
    unit = group(entry(1, "p", {"n": 10}, {"n": 0}), entry(2, "q", {"n": 0}, {"n": 10}))
    out = rebase(ground, [unit], lambda _: Rule(policy))
    if policy == "remote-wins":
        assert ground["wells/p"].cur == {"n": 5} and ground["wells/q"].cur == {"n": 0}
        assert len(out.logged) == 2 and not out.kept
    else:
        assert ground["wells/p"].cur == {"n": 0} and ground["wells/q"].cur == {"n": 10}
        assert all(e.held for e in out.kept) and len(out.kept) == 2
        assert [h.ref for h in out.held] == ["wells/p"]


def test_r03_a_rejected_unit_takes_what_was_built_on_it():
    ground = docs(p=(None, None), q=({"n": 0}, {"n": 0}))
    bad = group(
        entry(1, "p", None, {"n": 1}),
        entry(2, "q", {"n": 0}, {"n": 1}),
        verdict=Verdict("U", "rejected", "unique", "name", [0]),
    )
    on_p = Group([entry(3, "p", {"n": 1}, {"n": 1, "m": 2})])
    on_q = Group([entry(4, "q", {"n": 1}, {"n": 1, "m": 2})])
    out = rebase(ground, [bad, on_p, on_q], lambda _: Rule())
    assert [(d.group.id, d.code) for d in out.dead] == [("U", "unique"), ("e3", "depends")]
    assert "U" in out.dead[1].message
    assert ground["wells/p"].cur is None and ground["wells/q"].cur == {"n": 0, "m": 2}
    assert not out.logged


def test_what_is_in_flight_is_shown_and_not_judged():
    ground = docs(p=({"n": 0}, {"n": 5}))
    flying = Group([entry(1, "p", {"n": 0}, {"n": 1})], in_flight=True)
    before = write_json(flying.entries)
    out = rebase(ground, [flying], lambda _: Rule("remote-wins"))
    assert write_json(out.kept) == before and ground["wells/p"].cur == {"n": 1}


def test_server_side_effects_of_my_own_change_are_no_conflict():
    ground = docs(p=({"n": 0}, {"n": 1, "touched": "server"}))
    mine = Group([entry(1, "p", {"n": 0}, {"n": 1})], Verdict("e1", "applied"))
    later = Group([entry(2, "p", {"n": 1}, {"n": 2})])
    out = rebase(ground, [mine, later], lambda _: Rule())
    assert ground["wells/p"].cur == {"n": 2, "touched": "server"} and not out.logged


def pick(base, local, remote, meta):
    assert meta["key"] == "k"
    local["mutated"] = True  # its own copy
    return {**remote, "sum": local["n"] + remote["n"] - base["n"]}


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda *a: MANUAL, "left it"),
        (lambda *a: 1 / 0, "ZeroDivisionError"),
        (lambda *a: {"id": "other"}, "no document"),
        (lambda *a: None, "no document"),
        (None, "has no function"),
    ],
)
def test_functions(function, why):
    doc, out = run({"id": "k", "n": 0}, {"id": "k", "n": 2}, [{"id": "k", "n": 3}], Rule("pick", resolver=pick))
    assert doc.cur == {"id": "k", "n": 2, "sum": 5}
    assert out.logged[0][1].winner == "function"
    doc, out = run(
        {"id": "k", "n": 0}, {"id": "k", "n": 2}, [{"id": "k", "n": 3}], Rule("pick", resolver=function)
    )
    assert why in out.held[0].reason and doc.cur == {"id": "k", "n": 3}


def test_an_object_that_became_a_scalar_is_a_clash():
    doc, out = run({"id": "k", "a": {}}, {"id": "k", "a": 5}, [{"id": "k", "a": {"b": 1}}], Rule())
    assert doc.cur["a"] == {"b": 1} and out.logged[0][1].fields == ["a.b"]


def test_adopted_documents_that_differ_are_never_merged_silently():
    mine = entry(1, "p", None, {"n": 1})
    mine.adopt = True
    ground = docs(p=(None, {"n": 2}))
    out = rebase(ground, [Group([mine])], lambda _: Rule())
    assert out.held and ground["wells/p"].cur == {"n": 1}
    mine = entry(1, "p", None, {"n": 2})
    mine.adopt = True
    ground = docs(p=(None, {"n": 2}))
    out = rebase(ground, [Group([mine])], lambda _: Rule())
    assert out.removed and not out.held
