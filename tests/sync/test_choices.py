"""Choosing by field, and taking a settlement back (R23)."""

from __future__ import annotations

from typing import Any

import pytest

import homeport as hp
from homeport.core import conflicts
from homeport.core.choices import by_field, contested
from homeport.errors import NotFound, UsageError

from .device import Device
from .model import ModelServer

BASE = {"id": "w", "a": 1, "b": 1, "deep": {"x": 1, "y": 1}, "gone": 1}
LOCAL = {"id": "w", "a": 2, "b": 2, "deep": {"x": 2, "y": 1}}
REMOTE = {"id": "w", "a": 3, "b": 1, "deep": {"x": 3, "y": 3}, "gone": 1, "new": 3}


def pair(policy: str) -> tuple[ModelServer, Device, Device]:
    server = ModelServer({"wells": (policy, "delete-wins"), "_resolutions": ("merge", "delete-wins")})
    wells = hp.Collection("wells", sync=hp.Synced(policy))  # type: ignore[arg-type]
    return server, Device(server, wells, name="a"), Device(server, wells, name="b")


def settle(*devices: Device) -> None:
    for _ in range(3):
        for device in devices:
            device.sync()


def undo(device: Device, record: Any, to: str | None = None) -> Any:
    return device.write(conflicts.undo(device.synced, record.id, to))


def test_what_both_changed_is_contested_and_the_rest_is_kept() -> None:
    assert contested(BASE, LOCAL, REMOTE) == ["a", "deep.x"]
    assert by_field(BASE, LOCAL, REMOTE, {"a": "mine", "deep.x": "theirs"}) == {
        "id": "w", "a": 2, "b": 2, "deep": {"x": 3, "y": 3}, "new": 3,
    }  # fmt: skip
    chosen = by_field(BASE, LOCAL, REMOTE, {"a": "theirs", "deep.x": "mine", "b": "theirs", "gone": "theirs"})
    assert chosen == {"id": "w", "a": 3, "b": 1, "deep": {"x": 2, "y": 3}, "gone": 1, "new": 3}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"a": "mine"}, "'deep.x'"),
        ({}, "Both sides changed 'a'"),
        ({"a": "mine", "deep.x": "ours"}, "'mine' or 'theirs'"),
        ({"a": "mine", "deep.x": "mine", "z": "mine"}, "Nobody changed the field 'z'"),
    ],
)
def test_an_incomplete_choice_is_refused(fields: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        by_field(BASE, LOCAL, REMOTE, fields)
    with pytest.raises(UsageError, match="deleted"):
        by_field(BASE, None, REMOTE, {})


def test_r23_a_conflict_is_resolved_by_field() -> None:
    server, a, b = pair("manual")
    a.put(BASE)
    settle(a, b)
    a.put(REMOTE)
    b.put(LOCAL)
    settle(a, b)
    [conflict] = b.conflicts()
    assert conflict.fields == ["a", "deep.x"]
    choices = {"a": "mine", "deep.x": "theirs"}
    b.write(conflicts.resolve(b.synced, conflict.id, None, choices))
    settle(b, a)
    assert a.get("w") == b.get("w") == by_field(BASE, LOCAL, REMOTE, choices)
    for wrong in ((None, None), ("mine", choices)):
        with pytest.raises(UsageError, match="one of the two"):
            b.write(conflicts.resolve(b.synced, conflict.id, *wrong))


def test_r23_a_merge_is_taken_back_in_the_fields_that_it_settled() -> None:
    server, a, b = pair("merge")
    a.put(BASE)
    settle(a, b)
    a.patch("w", a=5, b=5)
    b.patch("w", a=6)
    settle(a, b)
    [record] = a.log()
    assert a.get("w")["a"] == 6 and record.fields == ["a"]
    a.patch("w", new="later")
    assert undo(a, record)["a"] == 5
    settle(a, b)
    assert a.get("w") == b.get("w") == {**BASE, "a": 5, "b": 5, "new": "later"}
    # once more: the field is not what the settlement made of it
    with pytest.raises(UsageError, match="changed again"):
        undo(b, record)
    with pytest.raises(NotFound):
        b.write(conflicts.undo(b.synced, "nothing", None))
    with pytest.raises(UsageError, match="to="):
        undo(b, record, "theirs")


def test_r23_a_lost_document_comes_back_whole() -> None:
    server, a, b = pair("remote-wins")
    a.put(BASE)
    settle(a, b)
    a.patch("w", a=5)
    b.patch("w", b=7)
    settle(a, b)
    [record] = b.log()
    assert b.get("w") == {**BASE, "a": 5}
    undo(a, record)
    settle(a, b)
    assert a.get("w") == b.get("w") == {**BASE, "b": 7}


def test_r23_a_deleted_document_comes_back() -> None:
    server, a, b = pair("merge")
    a.put(BASE)
    settle(a, b)
    a.delete("w")
    b.patch("w", b=7)
    settle(a, b)
    [record] = b.log()
    assert b.get("w") is None
    undo(a, record)
    settle(a, b)
    assert a.get("w") == b.get("w") == {**BASE, "b": 7}


def test_r23_what_a_function_made_needs_a_side() -> None:
    def longer(base: Any, local: Any, remote: Any, meta: Any) -> Any:
        return {**remote, "b": 100}

    server = ModelServer({"wells": ("longer", "delete-wins"), "_resolutions": ("merge", "delete-wins")})
    wells = hp.Collection("wells", sync=hp.Synced(longer))
    a, b = Device(server, wells, name="a"), Device(server, wells, name="b")
    a.put(BASE)
    settle(a, b)
    a.patch("w", b=2)
    b.patch("w", b=3)
    settle(a, b)
    [record] = b.log()
    with pytest.raises(UsageError, match="Say which version"):
        undo(b, record)
    assert undo(b, record, "base") == BASE
    settle(a, b)
    assert a.get("w") == BASE
