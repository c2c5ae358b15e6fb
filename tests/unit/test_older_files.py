"""A file made by the first version that had all kinds of indexes (``tests/cases/files/first.db.gz``,
60 documents, one of them deleted) opens with this one, and everything works on it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

import homeport as hp
from homeport.errors import UniqueViolation

F = hp.F
MADE = Path(__file__).resolve().parents[1] / "cases" / "files" / "first.db.gz"
DOCS = hp.Collection(
    "docs", indexes=["n", ("g", "n"), hp.Multi("tags"), hp.FullText("t"), hp.Unique("u")]
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "first.db"
    path.write_bytes(gzip.decompress(MADE.read_bytes()))
    return path


def test_every_feature_works_on_the_oldest_file(path: Path) -> None:
    with hp.open(path, collections=[DOCS], result_cache_mb=1) as db:
        d = db[DOCS]
        for _ in range(2):  # from the file, then from the cache
            assert d.count() == 59
            assert d.get("d0003") is None
            assert d.where(F.n.between(10, 12)).order_by("-n").keys() == ["d0012", "d0011", "d0010"]
            assert d.where(F.tags.contains("t1")).count() == 12
            assert d.search("shale8 sand").total == 6
            assert d.search("s*").total == 59
            assert d.group_by("g").count()["g3"] == 8
        for condition in (F.n == 10, F.tags.contains("t1"), F.u == 4, F.t.matches("shale1")):
            assert not d.where(condition).explain().scan
        meta = d.meta("d0001")
        assert meta is not None and meta.version == 1
        live = d.where(F.n > 55).live()
        assert len(next(live).rows) == 4
        d.put({"id": "new", "n": 58.5, "tags": ["t1"], "t": "gravel", "u": -1})
        assert "new" in [row["id"] for row in next(live).rows]
        assert [hit.key for hit in d.search("gravel")] == ["new"]
        with pytest.raises(UniqueViolation):
            d.put({"id": "twin", "u": -1})
        db.create_index(DOCS, "t")
        db.create_index(DOCS, hp.FullText("g"))
        assert d.search("g1").total == 9
        db.drop_index(DOCS, hp.FullText("g"))
        db.rebuild_text()
        assert db.verify_text() == []
        assert db._driver.engine.store.check() == []  # type: ignore[attr-defined]
        with db.snapshot() as view:
            d.delete("d0001")
            assert (view[DOCS].count(), d.count()) == (60, 59)
        db.optimize()
        db.cleanup(aggressive=True)
        assert db.size()["total"] > 0


def test_the_oldest_file_opens_for_reading_and_by_itself(path: Path) -> None:
    with hp.open(path, collections=[DOCS]):
        pass
    with hp.open(path, collections=[DOCS], readonly=True) as db:
        assert db[DOCS].search("shale8").total == 6
    with hp.open(path, collections=None) as db:
        assert db["docs"].where(F.n == 7).one()["id"] == "d0007"
