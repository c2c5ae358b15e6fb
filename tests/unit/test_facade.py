"""The public API, as design and guides promise it, on a file and in memory."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import homeport as hp
from homeport.errors import (
    CannotOpen,
    Corrupted,
    InvalidKey,
    MissingDependency,
    ReadOnly,
    SchemaError,
    SchemaMismatch,
    UsageError,
)


class Well(msgspec.Struct):
    id: str
    name: str
    field: str
    depth_m: float
    tags: list[str] = []


WELLS = hp.Collection(
    "wells",
    Well,
    indexes=[
        "depth_m",
        ("field", "depth_m"),
        hp.Multi("tags"),
        hp.Unique("name"),
        hp.FullText("name"),
    ],
)
PLAIN = hp.Collection("plain", indexes=["n", "b.c"])


@pytest.fixture(params=["memory", "file"])
def db(request: Any, tmp_path: Path) -> Iterator[hp.Database]:
    path = ":memory:" if request.param == "memory" else tmp_path / "field.db"
    with hp.open(path, collections=[WELLS, PLAIN], durability="relaxed") as db:
        yield db


@pytest.fixture
def w(db: hp.Database) -> hp.Documents[Well]:
    wells = db[WELLS]
    wells.put_many(
        [
            Well("w1", "Brent-7", "Brent", 2810.5, ["oil"]),
            Well("w2", "Brent-8 north", "Brent", 1500.0, ["oil", "gas"]),
            Well("w3", "Troll-1", "Troll", 900.0),
            Well("w4", "Brent-9", "Brent", 2001.0, ["dry"]),
        ]
    )
    return wells


def ids(docs: Any) -> list[Any]:
    return [doc.id if isinstance(doc, Well) else doc["id"] for doc in docs]


# -- the first ten lines


def test_the_first_ten_lines(tmp_path: Path) -> None:
    with hp.open(tmp_path / "field.db", collections=[WELLS]) as db:
        w = db[WELLS]
        w.put(Well(id="w1", name="Brent-7", field="Brent", depth_m=2810.5, tags=["oil"]))
        deep = w.where(hp.F.field == "Brent", hp.F.depth_m > 2000).order_by("-depth_m").limit(20).all()
        assert deep == [Well("w1", "Brent-7", "Brent", 2810.5, ["oil"])]
        assert db["wells"].get("w1") == deep[0]
    with hp.open(tmp_path / "field.db", collections=[WELLS]) as db:
        assert db[WELLS].count() == 1


async def test_the_first_ten_lines_async(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "field.db", collections=[WELLS]) as db:
        w = db[WELLS]
        await w.put(Well(id="w1", name="Brent-7", field="Brent", depth_m=2810.5, tags=["oil"]))
        query = w.where(hp.F.field == "Brent", hp.F.depth_m > 2000).order_by("-depth_m").limit(20)
        assert await query.all() == [Well("w1", "Brent-7", "Brent", 2810.5, ["oil"])]
        assert await db["wells"].get("w1") is not None


# -- documents


def test_get_put_add_delete(w: hp.Documents[Well]) -> None:
    assert w.get("w1") == Well("w1", "Brent-7", "Brent", 2810.5, ["oil"])
    assert w.get("none") is None
    assert w.get("none", 7) == 7
    assert w.put(Well("w1", "Brent-7", "Brent", 1.0)) == "w1"
    assert w.get("w1") == Well("w1", "Brent-7", "Brent", 1.0)
    with pytest.raises(hp.KeyExists):
        w.add(Well("w1", "other", "Brent", 1.0))
    assert w.add(Well("w5", "new", "Brent", 1.0)) == "w5"
    assert [w.delete("w5"), w.delete("w5"), w.delete("w5")] == [1, 0, 0]
    assert w.delete_many(["w1", "w2", "none", "w1"]) == 2
    assert w.clear() == 2
    assert w.clear() == 0
    with pytest.raises(InvalidKey):
        w.delete(None)  # type: ignore[arg-type]


def test_a_key_is_made(db: hp.Database) -> None:
    plain = db[PLAIN]
    document = {"n": 1}
    key = plain.put(document)
    assert isinstance(key, str)
    assert len(key) == 36
    assert key[14] == "7"
    assert plain.get(key) == {"n": 1, "id": key}
    assert document == {"n": 1}, "the caller's dict is not changed"
    keys = plain.put_many([{"n": 2}, {"id": "mine"}, {"n": 3}])
    assert keys[1] == "mine"
    assert sorted(keys) == sorted(plain.get(k)["id"] for k in keys)  # type: ignore[index]
    assert key < str(keys[0]) < str(keys[2]), "later ids sort behind"
    made = db[WELLS].put(Well("", "no id", "x", 1.0))
    assert db[WELLS].get(made).id == made  # type: ignore[union-attr]


def test_patch(w: hp.Documents[Well], db: hp.Database) -> None:
    assert w.patch("w1", {"depth_m": 5.0}).depth_m == 5.0
    assert w.patch("w1", depth_m=6.0, tags=["a"]) == Well("w1", "Brent-7", "Brent", 6.0, ["a"])
    with pytest.raises(hp.NotFound):
        w.patch("none", {"depth_m": 5.0})
    with pytest.raises(hp.UnknownField, match="did you mean 'depth_m'"):
        w.patch("w1", {"depht_m": 5.0})
    with pytest.raises(hp.ValidationFailed):
        w.patch("w1", {"depth_m": "deep"})
    with pytest.raises(UsageError, match="nothing to change"):
        w.patch("w1")
    assert w.get("w1").depth_m == 6.0  # type: ignore[union-attr]
    plain = db[PLAIN]
    plain.put({"id": "a", "b": {"c": 1, "d": 2}})
    assert plain.patch("a", {"b.c": 5, "b.d": hp.REMOVE, "x": None}) == {
        "id": "a",
        "b": {"c": 5},
        "x": None,
    }
    assert ids(plain.where({"b.c": 5}).all()) == ["a"]
    with pytest.raises(hp.InvalidDocument):
        plain.patch("a", {"when": datetime.now(UTC)})


def test_update(w: hp.Documents[Well]) -> None:
    def deeper(well: Well) -> Well:
        well.depth_m += 1
        return well

    assert w.update("w1", deeper).depth_m == 2811.5
    assert w.get("w1").depth_m == 2811.5  # type: ignore[union-attr]
    with pytest.raises(hp.NotFound):
        w.update("none", deeper)
    assert w.update("w9", deeper, default=Well("w9", "nine", "x", 0.0)).depth_m == 1.0
    assert w.get("w9").depth_m == 1.0  # type: ignore[union-attr]
    with pytest.raises(UsageError):
        w.update("w1", lambda well: None)  # type: ignore[arg-type,return-value]


def test_bulk_calls_report_failures_by_position(w: hp.Documents[Well]) -> None:
    with pytest.raises(hp.BulkError) as caught:
        w.add_many(
            [
                Well("a", "A", "x", 1.0),
                Well("w1", "B", "x", 1.0),
                Well("c", "Troll-1", "x", 1.0),
                Well("d", "D", "x", float("nan")),
                Well("e", "E", "x", 1.0),
            ]
        )
    failures = caught.value.failures
    assert {n: type(e) for n, e in failures.items()} == {
        1: hp.KeyExists,
        2: hp.UniqueViolation,
        3: hp.InvalidDocument,
    }
    assert caught.value.keys == ["a", None, None, None, "e"]
    assert w.get_many(["a", "e"]) == [Well("a", "A", "x", 1.0), Well("e", "E", "x", 1.0)]
    with pytest.raises(hp.BulkError) as caught:
        w.patch_many({"a": {"depth_m": 2.0}, "none": {"depth_m": 2.0}, "e": {"depth_m": "x"}})
    assert sorted(caught.value.failures) == [1, 2]
    assert w.get("a").depth_m == 2.0  # type: ignore[union-attr]
    assert w.patch_many([("a", {"depth_m": 3.0})]) == ["a"]


def test_meta(db: hp.Database) -> None:
    plain = db[PLAIN]
    before = datetime.now(UTC)
    plain.put({"id": "a", "n": 1})
    plain.patch("a", n=2)
    meta = plain.meta("a")
    assert meta is not None
    assert meta.key == "a"
    assert meta.version == 2
    assert (before - meta.created).total_seconds() < 0.01
    assert meta.created <= meta.modified
    assert len(meta.checksum) == 64
    assert (meta.sync_status, meta.last_sync, meta.device, meta.expires) == ("local", None, None, None)
    assert meta.backups == ()
    checksum = meta.checksum
    plain.patch("a", n=2)
    assert plain.meta("a").checksum == checksum  # type: ignore[union-attr]
    assert plain.meta("none") is None


# -- queries


def test_where_order_limit(w: hp.Documents[Well]) -> None:
    F = hp.F
    brent = w.where(F.field == "Brent")
    assert ids(brent.order_by("depth_m").all()) == ["w2", "w4", "w1"]
    assert ids(brent.where(F.depth_m > 2000).order_by("depth_m").all()) == ["w4", "w1"]
    assert ids(brent.order_by("depth_m").order_by("-depth_m").limit(1).limit(2).all()) == ["w1", "w4"]
    assert ids(brent.order_by("depth_m").offset(1).limit(1).all()) == ["w4"]
    assert ids(brent.order_by("depth_m").reverse().all()) == ["w1", "w4", "w2"]
    assert ids(brent.order_by("depth_m").after(1500.0, "w2").all()) == ["w4", "w1"]
    assert ids(w.order_by("-depth_m").limit(2)) == ["w1", "w4"]
    assert ids(w.limit(2)) == ["w1", "w2"]
    assert len(w.limit(0).all()) == 0
    assert brent.count() == 3
    assert sorted(brent.keys()) == ["w1", "w2", "w4"]
    assert brent.exists()
    assert not w.where(F.depth_m > 1e9).exists()
    assert w.where(F.depth_m < 1000).one().id == "w3"
    with pytest.raises(hp.NotFound):
        w.where(F.depth_m > 1e9).one()
    with pytest.raises(hp.NotUnique):
        brent.one()
    assert w.where(F.depth_m > 1e9).first() is None
    assert brent.order_by("-depth_m").first().id == "w1"  # type: ignore[union-attr]
    assert w.first() is not None


def test_conditions(w: hp.Documents[Well]) -> None:
    F = hp.F

    def of(*conditions: Any) -> list[Any]:
        return sorted(w.where(*conditions).keys())

    assert of(F.depth_m.between(1500, 2001)) == ["w2", "w4"]
    assert of(F.field.any_of("Troll", "x")) == ["w3"]
    assert of(F.field.none_of("Brent")) == ["w3"]
    assert of(F.name.starts_with("Brent-")) == ["w1", "w2", "w4"]
    assert of(F.tags.contains("oil")) == ["w1", "w2"]
    assert of(F.name.matches("north")) == ["w2"]
    assert of((F.depth_m < 1000) | (F.depth_m > 2500)) == ["w1", "w3"]
    assert of(~(F.field == "Brent")) == ["w3"]
    assert of({"field": "Brent", "depth_m": {"$gt": 2000, "$lte": 2500}}) == ["w4"]
    assert of({"$or": [{"id": "w1"}, {"id": "w2"}]}, F.tags.contains("gas")) == ["w2"]
    assert of() == ["w1", "w2", "w3", "w4"]


def test_dexies_chain(w: hp.Documents[Well]) -> None:
    assert sorted(w.where("depth_m").between(1000, 2001).keys()) == ["w2"]
    assert sorted(w.where("depth_m").between(1000, 2001, include_upper=True).keys()) == ["w2", "w4"]
    assert ids(w.where("depth_m").above(2001)) == ["w1"]
    assert ids(w.where("depth_m").above_or_equal(2001).order_by("depth_m")) == ["w4", "w1"]
    assert ids(w.where("depth_m").below(1000)) == ["w3"]
    assert ids(w.where("depth_m").below_or_equal(900)) == ["w3"]
    assert ids(w.where("name").equals("Troll-1")) == ["w3"]
    assert ids(w.where("name").equals_ignore_case("TROLL-1")) == ["w3"]
    assert ids(w.where("name").starts_with_ignore_case("troll")) == ["w3"]
    assert ids(w.where("name").starts_with("Tr")) == ["w3"]
    assert ids(w.where("field").not_equal("Brent")) == ["w3"]
    assert ids(w.where("field").any_of("Troll")) == ["w3"]
    assert ids(w.where("field").none_of("Brent")) == ["w3"]
    assert w.where("depth_m").in_any_range([(0, 1000), (2500, 3000)]).count() == 2
    chained = w.where("field").equals("Brent").where("depth_m").above(2500).limit(5)
    assert ids(chained.all()) == ["w1"]
    assert w.where("name").starts_with_any_of("Troll", "Brent-9").count() == 2
    assert w.where("name").any_of_ignore_case("troll-1", "x").count() == 1
    assert w.where("name").starts_with_any_of_ignore_case("troll", "BRENT-9").count() == 2


def test_filter_is_python(w: hp.Documents[Well]) -> None:
    odd = w.filter(lambda well: int(well.depth_m) % 2 == 1)
    assert ids(odd.all()) == ["w4"]
    assert odd.count() == 1
    assert odd.keys() == ["w4"]
    assert odd.exists()
    assert odd.one().id == "w4"
    big = w.where(hp.F.field == "Brent").order_by("-depth_m").filter(lambda well: well.depth_m > 1600)
    assert ids(big.limit(1).all()) == ["w1"]
    assert ids(big.offset(1).all()) == ["w4"]
    assert ids(big.limit(1)) == ["w1"]
    assert "filter" in str(big.explain()) or "python" in str(big.explain()).lower()
    assert odd.delete() == 1
    assert big.patch(depth_m=0.0) == 1


def test_delete_and_patch_by_query(w: hp.Documents[Well]) -> None:
    assert w.where(hp.F.field == "Brent").order_by("depth_m").limit(1).patch({"depth_m": 1.0}) == 1
    assert w.get("w2").depth_m == 1.0  # type: ignore[union-attr]
    with pytest.raises(hp.UniqueViolation):
        w.where(hp.F.field == "Brent").patch(name="same")
    assert w.where(hp.F.name == "same").count() == 0, "refused for one, refused for all"
    assert w.where(hp.F.depth_m > 1e9).delete() == 0
    assert w.where(hp.F.field == "Brent").delete() == 3
    assert ids(w) == ["w3"]


def test_iteration_in_chunks(db: hp.Database) -> None:
    plain = db[PLAIN]
    plain.put_many({"id": f"{n:04}", "n": n % 7, "m": n % 3} for n in range(1234))
    assert ids(plain) == [f"{n:04}" for n in range(1234)]
    for order in (["n"], ["-n"], ["m", "-n"], ["-id"], ["missing"]):
        query = plain.where(hp.F.n > 1).order_by(*order)
        assert ids(query) == ids(query.all()), order
        assert ids(query.limit(700)) == ids(query.limit(700).all()), order
        assert ids(query.offset(600)) == ids(query.offset(600).all()), order
        assert ids(query.reverse()) == ids(query.reverse().all()), order
        filtered = query.filter(lambda doc: doc["m"] != 1).offset(3).limit(600)
        assert ids(filtered) == ids(filtered.all()), order
    iterator = iter(plain)
    next(iterator)
    plain.clear()
    assert len(list(iterator)) < 1234, "each chunk is a snapshot of its own"


def test_iteration_delivers_what_comes_before_a_document_that_does_not_fit(tmp_path: Path) -> None:
    plain = hp.Collection("wells")
    with hp.open(tmp_path / "w.db", collections=[plain]) as db:
        db[plain].put_many({"id": f"w{number}", "depth_m": number} for number in range(5))
        db[plain].put({"id": "w3", "depth_m": "deep"})

    class Depth(msgspec.Struct):
        id: str
        depth_m: int

    typed = hp.Collection("wells", Depth)
    with hp.open(tmp_path / "w.db", collections=[typed]) as db:
        seen = []
        with pytest.raises(hp.ValidationFailed, match="'w3'"):
            for well in db[typed]:
                seen.append(well.id)
        assert seen == ["w0", "w1", "w2"]


def test_explain(w: hp.Documents[Well]) -> None:
    text = str(w.where(hp.F.depth_m > 2000).explain())
    assert "depth_m" in text
    assert "wells" in text


def test_wrong_queries_are_refused_when_they_are_built(w: hp.Documents[Well]) -> None:
    F = hp.F
    with pytest.raises(hp.UnknownField, match=r"no field 'depht_m' in wells; did you mean 'depth_m'\?"):
        w.where(F.depht_m > 1)
    with pytest.raises(hp.UnknownField):
        w.where({"depht_m": 1})
    with pytest.raises(hp.UnknownField):
        w.where("depht_m").above(1)
    with pytest.raises(hp.UnknownField):
        w.order_by("-depht_m")
    for wrong in (
        lambda: w.where((F.depth_m > 1) and (F.depth_m < 2)),
        lambda: w.where((F.depth_m > 1) or (F.depth_m < 2)),
        lambda: w.where(1 < F.depth_m < 2),
        lambda: w.where(F.depth_m > 1 & F.depth_m < 2),
        lambda: w.where(True),  # type: ignore[call-overload]
        lambda: w.where({"depth_m": {"$near": 1}}),
        lambda: w.where(F.depth_m),
        lambda: w.limit(-1),
        lambda: w.limit("3"),  # type: ignore[arg-type]
        lambda: w.filter(F.depth_m > 1),  # type: ignore[arg-type]
        lambda: w.order_by("name", "name"),
        lambda: w.order_by("name").after("x"),
    ):
        with pytest.raises(hp.InvalidQuery):
            wrong()


def test_fields_of_a_model(w: hp.Documents[Well]) -> None:
    W = hp.fields(Well)
    assert ids(w.where(W.depth_m < 1000).all()) == ["w3"]


def test_to_arrow(w: hp.Documents[Well], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match="pyarrow"):
        w.where(hp.F.depth_m > 1).to_arrow()


# -- models


@dataclasses.dataclass
class Note:
    text: str
    at: datetime
    id: str = dataclasses.field(default_factory=hp.new_id)


def test_a_dataclass_with_a_date(tmp_path: Path) -> None:
    notes = hp.Collection("notes", Note, indexes=["at"])
    with hp.open(tmp_path / "a.db", collections=[notes]) as db:
        early, late = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
        key = db[notes].put(Note("first", early))
        db[notes].put(Note("second", late))
        assert db[notes].get(key).at == early  # type: ignore[union-attr]
        assert [n.text for n in db[notes].where(hp.F.at > early)] == ["second"]
        assert [n.text for n in db[notes].where("at").above(early)] == ["second"]
        assert [n.text for n in db[notes].where("at").none_of(late)] == ["first"]
        assert [n.text for n in db[notes].where("at").any_of([late])] == ["second"]
        assert db[notes].where(hp.F.at.between(early, late)).count() == 2
        assert db[notes].where({"at": {"$gte": early, "$lt": late}}).count() == 1
        assert db[notes].patch(key, at=late).at == late
        assert db[notes].where(hp.F.at == late).count() == 2


class WellV2(msgspec.Struct):
    id: str
    name: str
    field: str
    depth_m: float
    tags: list[str] = []
    operator: str = "?"


def test_r15_a_write_through_an_older_model_keeps_what_it_does_not_know(tmp_path: Path) -> None:
    newer = hp.Collection("wells", WellV2)
    older = hp.Collection("wells", Well)
    path = tmp_path / "a.db"
    with hp.open(path, collections=[newer]) as db:
        db[newer].put(WellV2("w1", "n", "f", 1.0, [], "Equinor"))
    with hp.open(path, collections=[older]) as db:
        db[older].put(Well("w1", "n", "f", 2.0))
        db[older].update("w1", lambda well: msgspec.structs.replace(well, name="m"))
        db[older].patch("w1", tags=["x"])
        db[older].where(hp.F.name == "m").patch(field="g")
    with hp.open(path, collections=[newer]) as db:
        assert db[newer].get("w1") == WellV2("w1", "m", "g", 2.0, ["x"], "Equinor")


# -- databases


def test_unknown_collections_name_those_that_are_there(db: hp.Database) -> None:
    other = hp.Collection("other")
    for wrong in (other, "other", "_outbox"):
        with pytest.raises(hp.UnknownCollection, match="plain, wells"):
            db[wrong]
    twin = hp.Collection("plain")
    with pytest.raises(hp.UnknownCollection, match="another declaration"):
        db[twin]
    assert db[PLAIN] is db[PLAIN]
    assert [c.name for c in db.collections] == ["wells", "plain"]


def test_wrong_arguments_of_open(tmp_path: Path) -> None:
    for arguments in (
        {"collections": PLAIN},
        {"collections": ["plain"]},
        {"collections": [PLAIN], "durability": "some"},
        {"collections": [PLAIN], "busy_timeout_s": -1},
        {"collections": [PLAIN], "cache_mb": 0},
    ):
        with pytest.raises(UsageError):
            hp.open(tmp_path / "a.db", **arguments)  # type: ignore[arg-type]
    with pytest.raises(SchemaError):
        hp.open(tmp_path / "a.db", collections=[PLAIN, hp.Collection("plain")])
    assert not (tmp_path / "a.db").exists()


def test_opening_errors_are_typed(tmp_path: Path) -> None:
    with pytest.raises(CannotOpen):
        hp.open(tmp_path, collections=[PLAIN])
    with pytest.raises(CannotOpen):
        hp.open(tmp_path / "no" / "folder" / "a.db", collections=[PLAIN])
    broken = tmp_path / "broken.db"
    broken.write_bytes(os.urandom(20_000))
    content = broken.read_bytes()
    with pytest.raises(Corrupted):
        hp.open(broken, collections=[PLAIN])
    assert broken.read_bytes() == content, "a file that is refused is not touched"
    with pytest.raises(CannotOpen):
        hp.open(tmp_path / "absent.db", collections=[PLAIN], readonly=True)
    path = tmp_path / "a.db"
    with hp.open(path, collections=[PLAIN]) as db:
        db[PLAIN].put({"id": "a"})
    with pytest.raises(SchemaMismatch):
        hp.open(path, collections=[hp.Collection("plain", key="other")])


def test_readonly(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[PLAIN]) as db:
        db[PLAIN].put({"id": "a"})
    with hp.open(path, collections=[PLAIN], readonly=True) as db:
        assert db[PLAIN].get("a") == {"id": "a"}
        assert db[PLAIN].count() == 1
        for act in (lambda: db[PLAIN].put({"id": "b"}), lambda: db.transaction().__enter__()):
            with pytest.raises(ReadOnly):
                act()
        assert db[PLAIN].count() == 1


def test_expired_documents_are_gone_at_once_and_removed_later(tmp_path: Path) -> None:
    import time

    short = hp.Collection("short", ttl_s=0.05, sync=False)
    with hp.open(tmp_path / "a.db", collections=[short], durability="relaxed") as db:
        db[short].put({"id": "a"})
        meta = db[short].meta("a")
        assert meta is not None
        assert meta.expires is not None
        assert (meta.expires - meta.modified).total_seconds() == pytest.approx(0.05)
        time.sleep(0.08)
        assert db[short].get("a") is None
        assert db[short].count() == 0
        assert db[short].all() == []
        time.sleep(1.0)
        db[short].put({"id": "b"})
        left = db._driver.engine.session.execute("SELECT count(*) FROM c_short").get  # type: ignore[attr-defined]
        assert left == 1, "removed in the background"


def test_size_and_repr(db: hp.Database) -> None:
    db[PLAIN].put({"id": "a"})
    assert db.size()["total"] > 0
    assert "Database" in repr(db)
    assert "plain" in repr(db[PLAIN])
    assert "plain" in repr(db[PLAIN].where(hp.F.n > 1))
    db.checkpoint()


def test_new_id_is_a_sortable_uuid7() -> None:
    import uuid

    made = [hp.new_id() for _ in range(2000)]
    assert made == sorted(made)
    assert len(set(made)) == 2000
    assert {uuid.UUID(text).version for text in made} == {7}
    assert {uuid.UUID(text).variant for text in made} == {uuid.RFC_4122}
