"""Declarations: validated once, frozen, and refused with the reason."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest

from homeport.core.schema import MANUAL, Collection, FullText, Index, Multi, Synced, Unique
from homeport.errors import SchemaError


class Position(msgspec.Struct):
    lat: float
    lng: float


class Well(msgspec.Struct):
    id: str
    depth_m: float
    position: Position
    tags: list[str] = []
    cost: Decimal | None = None
    took: timedelta | None = None
    local: Annotated[datetime, msgspec.Meta(tz=False)] | None = None
    shifts: list[Decimal] = []


class Camel(msgspec.Struct, rename="camel"):
    well_id: str
    depth_m: float


class Terse(msgspec.Struct, omit_defaults=True):
    id: str
    depth_m: float = 0.0


def test_short_forms_are_indexes() -> None:
    wells = Collection(
        "wells", indexes=["depth_m", ("field", "depth_m"), Multi("tags"), Unique("name"), FullText("name")]
    )
    assert wells.indexes == (
        Index("depth_m"),
        Index("field", "depth_m"),
        Index("tags", multi=True),
        Index("name", unique=True),
        Index("name", kind="fulltext"),
    )
    assert [index.name for index in wells.indexes] == [
        "depth_m", "field_depth_m", "tags_m", "name", "name_f",
    ]  # fmt: skip


def test_names_of_indexes_never_collide() -> None:
    made = Collection("x", indexes=["a_b", ("a", "b"), "a.b", "A_b", Multi("t"), "t_m"]).indexes
    names = [index.name.casefold() for index in made]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "a").isalnum() for name in names)
    again = Collection("x", indexes=["a_b", ("a", "b"), "a.b", "A_b", Multi("t"), "t_m"]).indexes
    assert [index.name for index in again] == [index.name for index in made]
    assert len({index.spec for index in made}) == len(made)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"name": "_outlaw"}, "collection name"),
        ({"name": "a.b"}, "collection name"),
        ({"name": "9lives"}, "collection name"),
        ({"name": "x" * 64}, "collection name"),
        ({"name": ""}, "collection name"),
        ({"name": None}, "collection name"),
        ({"key": "a.b"}, "key"),
        ({"key": ""}, "key"),
        ({"indexes": "depth_m"}, "list"),
        ({"indexes": [7]}, "hp.Index"),
        ({"indexes": ["a", "a"]}, "twice"),
        ({"indexes": ["a", Unique("a")]}, "twice"),
        ({"indexes": ["a..b"]}, "no field path"),
        ({"indexes": [("a", "a")]}, "repetition"),
        ({"indexes": [()]}, "at least one"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"ttl_s": "1"}, "ttl_s"),
        ({"sync": True}, "sync"),
        ({"schema": 3}, "schema"),
        ({"model": "Well"}, "class"),
        ({"model": int}, "cannot be a model"),
        ({"model": Well, "key": "nr"}, "no field 'nr'"),
        ({"model": Well, "indexes": ["dept_m"]}, "did you mean 'depth_m'"),
        ({"model": Well, "indexes": ["position.lan"]}, "did you mean 'position.la?"),
        ({"model": Well, "indexes": ["cost"]}, "Decimal"),
        ({"model": Well, "indexes": [Multi("shifts")]}, "Decimal"),
        ({"model": Well, "indexes": ["took"]}, "timedelta"),
        ({"model": Well, "indexes": ["local"]}, "time zone"),
        ({"model": Terse, "indexes": ["depth_m"]}, "omit_defaults"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        Collection(**{"name": "wells", **options})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Index("a", kind="rtree"), "index kind"),
        (lambda: Index("a", "b", kind="fulltext"), "one field"),
        (lambda: Index("a", unique=True, kind="fulltext"), "unique"),
        (lambda: Synced("newest"), "policy"),
        (lambda: Synced(lambda b, l, r, m: l), "name"),
        (lambda: Synced(deletes="never"), "deletes"),
    ],
)
def test_refused_parts(make: Any, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        make()


def test_declarations_are_frozen_and_readable() -> None:
    wells = Collection("wells", Well, indexes=["depth_m", Unique("position.lat")])
    assert repr(wells) == (
        "Collection('wells', Well, indexes=[Index('depth_m'), Index('position.lat', unique=True)])"
    )
    for thing in (wells, wells.indexes[0], Synced()):
        with pytest.raises(AttributeError, match="frozen"):
            thing.name = "x"  # type: ignore[attr-defined,union-attr]
    assert len({wells, Collection("wells", Well)}) == 2


def test_stored_names_of_a_renamed_model() -> None:
    wells = Collection("wells", Camel, key="well_id", indexes=["depth_m"])
    assert (wells.key, wells.indexes[0].fields) == ("wellId", ("depthM",))


def test_sync_forms() -> None:
    def settle(base: Any, local: Any, remote: Any, meta: Any) -> Any:
        return MANUAL

    assert Collection("a").sync is not None
    assert Collection("a", sync=False).sync is None
    synced = Synced(settle, deletes="edit-wins")
    assert (synced.policy, synced.resolver, synced.deletes) == ("settle", settle, "edit-wins")
    assert repr(synced) == "Synced(settle, deletes='edit-wins')"
    assert repr(Synced("manual")) == "Synced('manual')"


def test_the_librarys_own_names_are_reserved() -> None:
    assert Collection("_outbox", sync=False).system
    assert not Collection("outbox").system
