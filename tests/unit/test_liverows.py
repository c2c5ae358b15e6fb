"""The sorted rows of a live query against a plain sorted list, through changes of every size."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.core import liverows
from homeport.core.liverows import Entry, SortedRows


def entry(place: int, key: int) -> Entry:
    return Entry(key, str(key), "{}", (place, key))


changes = st.lists(
    st.tuples(st.lists(st.integers(0, 60), max_size=20, unique=True), st.lists(st.integers(0, 99), max_size=20)),
    max_size=8,
)


@given(st.lists(st.integers(0, 99), max_size=60), changes)
def test_every_state_is_that_of_a_sorted_list(places: list[int], steps: list[tuple[list[int], list[int]]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(liverows, "CHUNK_ROWS", 4)
        model = sorted((entry(place, key) for key, place in enumerate(places)), key=lambda one: one.order)
        rows, key = SortedRows.of(model, lambda one: one.order), len(places)
        states = []
        for out, come in steps:
            states.append((rows, list(model)))
            assert rows.starts[-1] == len(model)  # asked for, so that the next state starts from it
            gone = [model[n] for n in out if n < len(model)]
            new = [entry(place, key + n) for n, place in enumerate(come)]
            key += len(new)
            rows = rows.replaced(gone, new)
            model = sorted([one for one in model if one not in gone] + new, key=lambda one: one.order)
        for state, expected in [*states, (rows, model)]:
            assert list(state) == expected
            assert state.starts == list(accumulate(map(len, state._chunks), initial=0))
            assert [state.row(one) for one in expected] == list(range(len(expected)))
            assert [state.at(n) for n in range(len(expected))] == expected
