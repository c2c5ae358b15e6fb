"""Collections whose documents are compressed in the file: nothing but the size may show it."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

import homeport as hp
from homeport.cli.inspect import inspect_file
from homeport.core.outbox import OUTBOX
from homeport.core.query import EMPTY
from homeport.core.requests import Find, Operation
from homeport.errors import Corrupted, FileTooNew, MissingDependency, SchemaError
from homeport.storage import sql, sqlite_packing

WAYS = ["none", "gzip", "zstd"]


def wells(way: Any, *indexes: Any) -> hp.Collection[dict[str, Any]]:
    return hp.Collection("wells", indexes=indexes, compression=way)


def well(n: int, samples: int = 300) -> dict[str, Any]:
    random.seed(n)
    return {
        "id": f"w{n}",
        "name": f"Brønn {n}",
        "note": f"drilled {'deep' if n % 2 else 'shallow'}",
        "depth_m": n * 10.5,
        "tags": ["oil", f"t{n % 3}"],
        "curve": [round(random.gauss(60, 3), 2) for _ in range(samples)],
    }


def stored(path: Path, *, table: str = "c_wells", column: str = "packed") -> dict[str, Any]:
    """Key → what lies in the file, by a connection that knows nothing of packing."""
    db = apsw.Connection(str(path))
    try:
        return dict(db.execute(f'SELECT id, {column} FROM "{table}"').fetchall())
    finally:
        db.close()


def overwrite(path: Path, key: str, value: bytes) -> None:
    db = apsw.Connection(str(path))
    for name in ("homeport_pack", "homeport_text"):  # else SQLite asks for the text of the new row
        db.create_scalar_function(name, lambda *_: None, 2, deterministic=True)
    db.execute("UPDATE c_wells SET packed=? WHERE id=?", (value, key))
    db.close()


def test_every_way_of_reading_gives_the_document(tmp_path: Path) -> None:
    indexes = ["depth_m", hp.Multi("tags"), hp.FullText("note")]
    answers = []
    for way in WAYS:
        with hp.open(tmp_path / f"{way}.db", collections=[wells(way, *indexes)]) as db:
            w = db["wells"]
            w.put_many(well(n) for n in range(20))
            w.put({"id": "small", "name": "s", "depth_m": 1})
            w.patch("w3", name="patched")
            w.update("w4", lambda doc: {**doc, "extra": 1})
            w.delete("w5")
            by_name = w.where(hp.F.name == "Brønn 7")
            db.create_index("wells", "name")
            with db.snapshot() as snapshot:
                seen = snapshot["wells"].get("w8")
            answers.append(
                [
                    [w.get(f"w{n}") for n in range(20)], w.get_many(["w1", "no", "small"]), seen,
                    w.order_by("-name").all(), w.order_by("curve").keys(), by_name.all(),
                    w.where(hp.F.curve.has_size(300)).count(), w.where(hp.F.depth_m > 100).sum("depth_m"),
                    w.where(hp.F.tags.contains("t1")).order_by("id").all(), w.max("name"),
                    w.where(hp.F.note.matches("deep")).order_by("id").keys(), db.verify_text(), db._driver.engine.store.check(),
                ]
            )  # fmt: skip
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0][3]["name"] == "patched" and answers[0][-1] == answers[0][-2] == []


def test_the_file_is_smaller_and_short_documents_are_text(tmp_path: Path) -> None:
    sizes = {}
    for way in WAYS:
        with hp.open(tmp_path / f"{way}.db", collections=[wells(way)]) as db:
            db["wells"].put_many(well(n, 2_000) for n in range(30))
            db["wells"].put({"id": "short", "name": "x"})
            sizes[way] = db.size()["wells"]
    assert sizes["gzip"] < 0.6 * sizes["none"] and sizes["zstd"] < 0.6 * sizes["none"]
    for way, mark in (("gzip", sqlite_packing.GZIP), ("zstd", sqlite_packing.ZSTD)):
        found = stored(tmp_path / f"{way}.db")
        assert found["short"] == '{"id":"short","name":"x"}' and found["w1"][:1] == mark


def test_what_does_not_shrink_stays_text() -> None:
    letters = "".join(chr(random.Random(1).randrange(0x4E00, 0x9FFF)) for _ in range(2))
    assert sqlite_packing.pack(letters, "gzip") is letters
    noise = "".join(map(chr, random.Random(1).choices(range(0x20, 0x7F), k=513)))
    assert isinstance(sqlite_packing.pack("a" * 600, "gzip"), bytes)
    packed = sqlite_packing.pack(noise, "gzip")
    assert packed is noise or len(packed) < len(noise)


def test_the_option_may_change_and_every_mixture_is_read(tmp_path: Path) -> None:
    path, expected = tmp_path / "a.db", {}
    for turn, way in enumerate(["none", "gzip", "zstd", "none", "gzip"]):
        with hp.open(path, collections=[wells(way, "depth_m", hp.FullText("note"))]) as db:
            assert {doc["id"]: doc for doc in db["wells"].all()} == expected
            made = well(turn)
            db["wells"].put(made)
            expected[made["id"]] = made
            assert db["wells"].where(hp.F.name == made["name"]).all() == [made]
            assert db["wells"].where(hp.F.note.matches("drilled")).count() == turn + 1
            assert db.verify_text() == [] and db._driver.engine.store.check() == []
    kinds = [type(one) is str or one[:1] for one in stored(path).values()]
    assert kinds == [True, b"\x01", b"\x02", True, b"\x01"]


def test_plain_files_keep_their_form_and_old_versions_refuse_packed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[wells("none")]) as db:
        db["wells"].put(well(1))
        assert db.storage_info().format == sql.PLAIN_FORMAT
    assert type(stored(path, column="doc")["w1"]) is str
    with hp.open(path, collections=[wells("gzip")]) as db:
        assert db.storage_info().format == sql.FORMAT and db["wells"].get("w1") == well(1)
    monkeypatch.setattr(sql, "FORMAT", sql.PLAIN_FORMAT)
    with pytest.raises(FileTooNew):
        hp.open(path, collections=[wells("none")])


def test_a_handle_that_was_open_before_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[wells("none", "depth_m")]) as old:
        old["wells"].put(well(1))
        with hp.open(path, collections=[wells("gzip", "depth_m")]) as new:
            new["wells"].put(well(2))
            old["wells"].put(well(3))
            old["wells"].put_many([well(4), well(5)])
            assert old["wells"].get("w2") == well(2) == new["wells"].get("w2")
            assert new["wells"].where(hp.F.depth_m > 30).keys() == ["w3", "w4", "w5"]
    assert [type(one) for one in stored(path).values()] == [str, bytes, str, str, str]


def test_readonly_another_process_and_a_file_without_its_program(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[wells("zstd")]) as db:
        db["wells"].put_many(well(n) for n in range(3))
        program = (
            "import sys, homeport as hp\n"
            "w = hp.Collection('wells', compression='gzip')\n"
            "with hp.open(sys.argv[1], collections=[w]) as db:\n"
            "    doc = db['wells'].get('w2')\n"
            "    db['wells'].put({**doc, 'id': 'other'})\n"
        )
        subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=60)
        assert db["wells"].get("other") == {**well(2), "id": "other"}
    with hp.open(path, collections=None, readonly=True) as db:
        assert db["wells"].get("w2") == well(2) and db["wells"].count() == 4
    with hp.open(path, collections=None) as db:
        db["wells"].put({**well(2), "id": "again"})
    assert stored(path)["again"][:1] == sqlite_packing.GZIP  # as it was declared last
    found = inspect_file(path, verify=True)
    assert found.problems == [] and found.collections[0].documents == 5


@pytest.mark.parametrize("way", ["gzip", "zstd"])
@pytest.mark.parametrize("damage", ["cut", "changed", "unknown", "empty"])
def test_a_damaged_document_is_named_and_can_be_replaced(
    tmp_path: Path, way: str, damage: str
) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[wells(way)]) as db:
        db["wells"].put_many(well(n) for n in range(3))
    good = stored(path)["w1"]
    middle = len(good) // 2
    overwrite(
        path,
        "w1",
        {
            "cut": good[:middle],
            "changed": good[:middle] + bytes([good[middle] ^ 255]) + good[middle + 1 :],
            "unknown": b"\x7f" + good[1:],
            "empty": b"",
        }[damage],
    )
    with hp.open(path, collections=[wells(way)]) as db:
        for read in (lambda: db["wells"].get("w1"), lambda: db["wells"].all()):
            with pytest.raises(Corrupted, match="'w1'"):
                read()
        assert "'w1'" in db._driver.engine.store.check()[0] and "'w1'" in inspect_file(path).problems[0]
        assert db["wells"].get("w2") == well(2)
        db["wells"].put(well(1))
        assert db["wells"].get("w1") == well(1) and db._driver.engine.store.check() == []


@pytest.mark.parametrize("way", ["gzip", "zstd"])
def test_no_changed_byte_becomes_another_document(way: Any) -> None:
    text = msgspec.json.encode(well(1, 100)).decode()
    good = sqlite_packing.pack(text, way)
    assert isinstance(good, bytes)
    refused = 0
    for place in range(len(good)):
        for bit in (1, 16, 128):
            try:
                found = sqlite_packing.unpack(
                    good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :]
                )
            except ValueError:
                refused += 1
            else:
                assert found == text  # what the stream does not use
    assert refused > 2 * len(good)


def test_without_the_package_zstd_is_refused_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[wells("zstd")]) as db:
        db["wells"].put_many([well(1), {"id": "short"}])
    gc.collect()
    monkeypatch.setattr(sqlite_packing, "_zstd", lambda: None)
    with pytest.raises(MissingDependency, match="zstd"):
        hp.open(path, collections=[wells("zstd")])
    with hp.open(path, collections=[wells("gzip")]) as db:
        with pytest.raises(MissingDependency, match="zstd"):
            db["wells"].get("w1")
        db["wells"].put(well(2))
        assert db["wells"].get("w2") == well(2) and db["wells"].get("short") == {"id": "short"}
    monkeypatch.undo()
    with hp.open(path, collections=[wells("zstd")]) as db:
        assert db["wells"].get("w1") == well(1)


def test_live_queries_indexes_and_the_queue_of_sync(tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[wells("gzip")]) as db:
        db.sync("http://127.0.0.1:9", token="t")
        live = db["wells"].where(hp.F.depth_m > 15).live()
        live.next()
        db["wells"].put_many(well(n) for n in range(4))
        change = live.next(timeout_s=5)
        assert change is not None and list(change.added) == [well(2), well(3)]
        texts = db._driver.engine.run(Operation(Find(OUTBOX, EMPTY.with_order("id"), "texts"), "read", True))
        sent = [msgspec.json.decode(text)["doc"] for text in texts]
        assert sent == [well(n) for n in range(4)]
        db["wells"].patch("w3", depth_m=1)
        change = live.next(timeout_s=5)
        assert change is not None and len(change.removed) == 1
        db["wells"].patch("w3", depth_m=31.5)
        db.create_index("wells", "depth_m")
        assert db["wells"].where(hp.F.depth_m > 15).keys() == ["w2", "w3"]
        db.drop_index("wells", "depth_m")
        assert db["wells"].where(hp.F.depth_m > 15).keys() == ["w2", "w3"]
        live.close()


def test_memory_takes_the_declaration_and_a_wrong_one_is_refused() -> None:
    with hp.open(":memory:", collections=[wells("gzip")]) as db:
        db["wells"].put(well(1))
        assert db["wells"].get("w1") == well(1)
    with pytest.raises(SchemaError, match="'zip'"):
        wells("zip")
