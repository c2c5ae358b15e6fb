"""Expired documents are invisible to every question, at once, on both stores."""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import homeport as hp
from homeport import making
from homeport.errors import SchemaError

BRIEF = hp.Collection(
    "brief",
    indexes=["n", hp.Multi("tags"), hp.FullText("text"), hp.Unique("u")],
    ttl_s=0.05,
)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_nothing_sees_an_expired_document(kind: str, tmp_path: Path) -> None:
    path = ":memory:" if kind == "memory" else tmp_path / "a.db"
    with hp.open(path, collections=[BRIEF], durability="relaxed") as db:
        w = db[BRIEF]
        w.load(
            {"id": f"k{n}", "n": n, "tags": ["a"], "text": "hello world", "u": n, "g": n % 2}
            for n in range(50)
        )
        time.sleep(0.1)
        q = w.where(hp.F.n >= 0)
        seen: dict[str, Any] = {
            "get": w.get("k1"), "get_many": w.get_many(["k1"])[0], "all": w.all(), "count": w.count(),
            "counted": q.count(), "keys": w.keys(), "iteration": list(w), "exists": w.exists(),
            "first": w.first(), "last": w.order_by("n").last(), "meta": w.meta("k1"),
            "sum": q.sum("n"), "min": q.min("n"), "group": q.group_by("g").count(),
            "distinct": q.distinct("g"), "multi": w.where(hp.F.tags.contains("a")).count(),
            "words": w.where(hp.F.text.matches("hello")).count(), "search": list(w.search("hello")),
            "aggregate": q.aggregate(n=hp.agg.count())["n"], "info": db.storage_info().collections[0].documents,
            "export": w.export_to(io.BytesIO(), "csv").rows, "changed": q.patch(n=1), "deleted": q.delete(),
        }  # fmt: skip
        assert {name: found for name, found in seen.items() if found} == {}
        # Their keys and unique values are free again, before anybody has removed them.
        assert w.add({"id": "k1", "n": 1, "u": 2}) == "k1"


@pytest.mark.parametrize("wrong", [0, -1, float("inf"), float("nan"), "1h"])
def test_a_time_that_is_no_number_of_seconds_is_refused(wrong: Any) -> None:
    with pytest.raises(SchemaError, match="ttl_s"):
        hp.Collection("c", ttl_s=wrong)


UNTIL = hp.Collection("until", indexes=["n"], expires_at="session.until", ttl_s=3600)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_every_write_reads_the_moment_that_a_document_names(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ":memory:" if kind == "memory" else tmp_path / "a.db"
    clock = [1_900_000_000_000]
    monkeypatch.setattr(making, "clock_ms", lambda: clock[0])
    soon, late = 1_900_000_000.5, "2100-01-01T00:00:00+00:00"
    with hp.open(path, collections=[UNTIL], durability="relaxed") as db:
        w = db[UNTIL]

        def doc(key: str, until: object = soon) -> dict[str, Any]:
            return {"id": key, "n": 1, "session": {"until": until}}

        w.put(doc("put"))
        w.add(doc("add"))
        w.put_many([doc("many"), doc("late", late), doc("none", None)])
        w.load([doc("load")])
        w.put_many([{"id": name} for name in ("patch", "update", "where", "all")])
        w.patch("patch", {"session.until": soon})
        w.update("update", lambda _: doc("update"))
        w.where(hp.F.id == "where").patch({"session.until": soon})
        w.where(hp.F.id == "all").update(lambda _: doc("all"))
        with db.transaction():
            w.put(doc("unit"))
        w.put(doc("shorter", late))
        w.patch("shorter", {"session.until": soon})
        w.put(doc("longer"))
        w.patch("longer", {"session.until": late})
        w.put(doc("gone"))
        w.patch("gone", {"session.until": hp.REMOVE})  # the time of the collection
        assert w.count() == 14
        meta = w.meta("late")
        assert meta is not None
        assert meta.expires is not None
        assert meta.expires == datetime(2100, 1, 1, tzinfo=UTC)
        live = w.order_by("id").live()
        assert len(next(live).rows) == 14
        clock[0] += 500
        change = live.next(timeout_s=5)
        assert change is not None
        assert w.order_by("id").keys() == ["gone", "late", "longer", "none"]
        assert [row["id"] for row in change.rows] == ["gone", "late", "longer", "none"]
        live.close()


def test_a_moment_that_is_none_is_refused() -> None:
    with hp.open(":memory:", collections=[UNTIL]) as db:
        w = db[UNTIL]
        w.put({"id": "a"})
        for wrong in ("tomorrow", "2030-01-01", "2030-01-01T00:00:00", True, [1], {"at": 1}, 1e300):
            with pytest.raises(hp.errors.InvalidDocument, match="is no moment"):
                w.put({"id": "b", "session": {"until": wrong}})
            with pytest.raises(hp.errors.InvalidDocument, match="is no moment"):
                w.patch("a", {"session.until": wrong})
        assert w.keys() == ["a"]


def test_a_field_of_a_model_that_is_no_moment_is_refused() -> None:
    class Wrong(msgspec.Struct):
        id: str
        until: str = ""

    class Right(msgspec.Struct):
        id: str
        until: datetime | None = None

    with pytest.raises(SchemaError, match="no moment"):
        hp.Collection("c", Wrong, expires_at="until")
    with pytest.raises(SchemaError, match="untill"):
        hp.Collection("c", Right, expires_at="untill")
    with pytest.raises(SchemaError):
        hp.Collection("c", expires_at=5)  # type: ignore[arg-type]
    right = hp.Collection("c", Right, expires_at="until")
    with hp.open(":memory:", collections=[right]) as db:
        db[right].put(Right("a", datetime.now(UTC) - timedelta(seconds=1)))
        db[right].put(Right("b", datetime.now(UTC) + timedelta(hours=1)))
        assert db[right].keys() == ["b"]


def test_a_file_remembers_it(tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[UNTIL]) as db:
        db[UNTIL].put({"id": "a"})
    with hp.open(tmp_path / "a.db", collections=None) as db:
        db["until"].put({"id": "b", "session": {"until": 1}})
        assert db["until"].keys() == ["a"]
