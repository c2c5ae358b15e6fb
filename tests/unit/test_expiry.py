"""Expired documents are invisible to every question, at once, on both stores."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest

import homeport as hp
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
