"""Commits of several texts on a place that sets one at a time: crashes at every step, and no room."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.errors import Closed, Corrupted, QuotaExceeded
from homeport.storage.journaled_texts import JournaledTexts, prefix_of
from tests.unit.test_simple_store import CHANGES

PREFIX = prefix_of("simple", "a/b")


class Crash(BaseException):
    pass


class Area:
    """As a localStorage: so many characters, and a tab that may be killed before any step."""

    def __init__(self, room: int = 10_000, stop: int = 0) -> None:
        self.texts: dict[str, str] = {}
        self.room, self.stop, self.steps = room, stop, 0

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.stop:
            raise Crash

    def all(self, prefix: str) -> dict[str, str]:
        return {name: text for name, text in self.texts.items() if name.startswith(prefix)}

    def get(self, name: str) -> str | None:
        return self.texts.get(name)

    def set(self, name: str, text: str) -> None:
        self._step()
        after = {**self.texts, name: text}
        if sum(len(one) + len(other) for one, other in after.items()) > self.room:
            raise QuotaExceeded("full")
        self.texts = after

    def remove(self, name: str) -> None:
        self._step()
        self.texts.pop(name, None)

    def free_bytes(self) -> int | None:
        return None


@settings(max_examples=300, deadline=None)
@given(commits=CHANGES, stop=st.integers(0, 80), room=st.integers(60, 1_500), again=st.integers(0, 12))
def test_a_commit_happens_whole_or_not_at_all(
    commits: list[dict[str, str | None]], stop: int, room: int, again: int
) -> None:
    area = Area(room, stop)
    area.texts["another program"] = "x"
    keeper = JournaledTexts(area, PREFIX, "test")
    assert keeper.load() == {}
    state: dict[str, str] = {}
    after: dict[str, str] = {}
    try:
        for changes in commits:
            after = {name: text for name, text in {**state, **changes}.items() if text is not None}
            try:
                keeper.write(changes)
            except QuotaExceeded:
                assert JournaledTexts(area, PREFIX, "test").load() == state, "as before"
            else:
                state = after
                assert area.all(PREFIX).keys() == {f"{PREFIX}i/{name}" for name in state}
    except Crash:
        # The tab that puts it right may be killed as well.
        area.steps, area.stop = 0, again
        try:
            JournaledTexts(area, PREFIX, "test").load()
        except Crash:
            area.stop = 0
        area.stop = 0
        found = JournaledTexts(area, PREFIX, "test").load()
        assert found in (state, after)
        assert set(area.texts) == {"another program", *(f"{PREFIX}i/{name}" for name in found)}


def test_names_of_databases_do_not_meet() -> None:
    area = Area()
    one, two = (JournaledTexts(area, prefix_of("simple", name), "test") for name in ("a", "a/i"))
    one.write({"docs/d/1": '"one"'})
    two.write({"docs/d/1": '"two"'})
    assert (one.load(), two.load()) == ({"docs/d/1": '"one"'}, {"docs/d/1": '"two"'})


def test_deleting_needs_no_room_to_speak_of() -> None:
    area = Area(room=3_000)
    keeper = JournaledTexts(area, PREFIX, "test")
    keeper.load()
    for n in range(10):
        keeper.write({f"docs/d/{n}": json.dumps("x" * 200)})
    area.room = sum(len(one) + len(other) for one, other in area.texts.items()) + 250
    keeper.write({f"docs/d/{n}": None for n in range(10)})
    assert keeper.load() == {}


def test_what_somebody_else_has_cleared_is_told() -> None:
    area = Area()
    keeper = JournaledTexts(area, PREFIX, "test")
    keeper.load()
    keeper.write({"docs/d/1": '"a"'})
    keeper.write({"docs/d/1": None})
    keeper.write({"docs/d/2": '"b"'})
    area.texts.clear()
    with pytest.raises(Closed, match="cleared"):
        keeper.write({"docs/d/3": '"c"'})
    area.texts[PREFIX + "journal"] = "nonsense"
    with pytest.raises(Corrupted):
        keeper.load()
