"""Diffs as dotted paths: exact, invertible, and disjoint ones commute."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homeport.core import diff as d

names = st.sampled_from(["a", "b", "c", "d"])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.0, 1.0, 2.5]), st.text("xy", max_size=2)
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)
documents = st.dictionaries(names, values, max_size=4)
odd_names = st.sampled_from(["a", "b", "a.b", "", "c"])
odd_documents = st.dictionaries(
    odd_names, st.one_of(scalars, st.dictionaries(odd_names, scalars, max_size=3)), max_size=3
)


@given(documents, documents)
def test_a_diff_turns_old_into_new_and_back(old, new):
    patch = d.diff(old, new)
    assert patch is not None
    assert d.same(d.apply(old, patch), new)
    assert d.same(d.revert(new, patch), old)
    assert patch.empty == d.same(old, new)


@given(odd_documents, odd_documents)
def test_names_that_no_path_can_say_are_sent_whole_and_never_wrong(old, new):
    patch = d.diff(old, new)
    if patch is not None:
        assert d.same(d.apply(old, patch), new)


@given(documents, documents, documents)
def test_patches_on_disjoint_paths_commute(base, left, right):
    a, b = d.diff(base, left), d.diff(base, right)
    if any(d.overlaps(p, q) for p in a.paths for q in b.paths):
        return
    one = d.apply(d.apply(base, a), b)
    other = d.apply(d.apply(base, b), a)
    assert d.same(one, other)


@given(documents, documents)
def test_old_holds_exactly_what_was_there(old, new):
    patch = d.diff(old, new)
    for path in patch.paths:
        before = d.get(old, path)
        if before is d.MISSING:
            assert path not in patch.old
        else:
            assert d.same(patch.old[path], before)


def test_same_knows_the_types_of_json():
    assert not d.same(1, True)
    assert not d.same(1, 1.0)
    assert not d.same([0], [False])
    assert d.same({"a": 1, "b": [1.5]}, {"b": [1.5], "a": 1})


def test_arrays_are_atomic_and_objects_are_not():
    patch = d.diff({"a": [1, 2], "o": {"x": 1, "y": 2}}, {"a": [1, 3], "o": {"x": 1, "y": 5}})
    assert patch.set == {"a": [1, 3], "o.y": 5}
    assert patch.old == {"a": [1, 2], "o.y": 2}


def test_setting_below_a_scalar_replaces_it():
    assert d.set_at({"a": 5}, "a.b", 1) == {"a": {"b": 1}}
    assert d.unset_at({"a": 5}, "a.b") == {"a": 5}
