"""Full-text indexes made on live data: in small steps, beside writers, across a kill."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import homeport as hp
from homeport.core.indexing import IndexProgress
from homeport.errors import InvalidQuery
from homeport.storage import sql, sqlite_declared, sqlite_schema, sqlite_step, sqlite_textbuild
from homeport.storage.sqlite_build import Execute

F = hp.F
ROWS = 6_000
WORDS = ["sand", "shale", "chalk", "clay", "silt", "gravel", "coal", "marl"]


def document(n: int) -> dict[str, Any]:
    rng = random.Random(n)
    return {"id": f"d{n:05}", "title": f"T{n % 100} {rng.choice(WORDS)}", "body": " ".join(rng.choices(WORDS, k=6))}


def filled(path: Path, *indexes: Any, rows: int = ROWS) -> hp.Collection[Any]:
    docs = hp.Collection("docs", indexes=indexes)
    with hp.open(path, collections=[docs], durability="relaxed") as db:
        db[docs].put_many(document(n) for n in range(rows))
    return docs


def layout(db: hp.Database) -> Any:
    return db._driver.engine.store.statements["docs"].layout  # type: ignore[attr-defined]


def tables(db: hp.Database) -> list[str]:
    """The full-text tables of the file."""
    execute: Execute = db._driver.engine.session.execute  # type: ignore[attr-defined]
    text = "SELECT name FROM sqlite_schema WHERE sql LIKE '%USING fts5(%' ORDER BY name"
    return [name for (name,) in execute(text).fetchall()]


def right(db: hp.Database, *fields: str) -> None:
    """The words of the index are those of the documents, a search finds what a scan finds, and the
    store in memory gives the same hits, scores and order."""
    assert db.verify_text() == []
    assert db._driver.engine.store.check() == []  # type: ignore[attr-defined]
    every = list(db["docs"].all())
    copied = hp.Collection("docs", indexes=[hp.FullText(field) for field in fields])
    with hp.open(":memory:", collections=[copied]) as memory:
        memory["docs"].put_many(every)
        for text in ("sand", "t7 coal", "sh*", '"sand shale"', "nothing"):
            mine = [(hit.key, hit.score) for hit in db["docs"].search(text, limit=20, candidates=9_999)]
            theirs = [(hit.key, hit.score) for hit in memory["docs"].search(text, limit=20, candidates=9_999)]
            assert mine == theirs, text
        for field in fields:
            found = db["docs"].where(F[field].matches("clay OR t3")).keys()
            assert sorted(found) == sorted(memory["docs"].where(F[field].matches("clay OR t3")).keys())


def test_it_is_made_beside_writers_and_right_after_every_step(tmp_path: Path) -> None:
    docs = filled(tmp_path / "a.db")
    rng = random.Random(1)
    seen: list[IndexProgress] = []
    with (
        hp.open(tmp_path / "a.db", collections=[docs]) as db,
        hp.open(tmp_path / "a.db", collections=[docs]) as other,
    ):

        def meanwhile(progress: IndexProgress) -> None:
            seen.append(progress)
            for one in (db["docs"], other["docs"]):
                for _ in range(5):
                    one.put({**document(rng.randrange(ROWS)), "body": "granite"})
                    one.delete(f"d{rng.randrange(ROWS):05}")
                one.put({**document(len(seen)), "id": f"new{rng.random()}"})
                assert one.where(F.body.matches("granite")).count() == sum(d["body"] == "granite" for d in one.all())
            if "body_text" in layout(db).building and len(seen) == 3:
                with pytest.raises(InvalidQuery, match="no full-text"):
                    db["docs"].search("granite")

        index = db.create_index(docs, hp.FullText("body"), progress=meanwhile)
        assert index.kind == "fulltext"
        assert seen[-1].phase == "done" and len(seen) > 3
        shares = [one.share for one in seen if one.indexes]
        assert shares == sorted(shares) and shares[-1] == 1.0
        for one in (db, other):
            right(one, "body")
            assert one["docs"].suggest("gran") == ["granite"]
            assert not one["docs"].where(F.body.matches("granite")).explain().scan
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:  # the declaration does not know it
        right(db, "body")
        db["docs"].put({"id": "late", "body": "basalt"})
        assert [hit.key for hit in db["docs"].search("basalt")] == ["late"]
        assert db.drop_index(docs, hp.FullText("body")) is True
        assert db.drop_index(docs, hp.FullText("body")) is False
        assert tables(db) == []
        assert not layout(db).unfinished
        with pytest.raises(InvalidQuery, match="no full-text"):
            db["docs"].search("basalt")
        assert db["docs"].where(F.body.matches("basalt")).keys() == ["late"]


def test_another_field_joins_what_is_read_meanwhile(tmp_path: Path) -> None:
    docs = filled(tmp_path / "a.db", hp.FullText("title"))
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        before = [hit.key for hit in db["docs"].search("coal t7")]
        asked = 0

        def meanwhile(progress: IndexProgress) -> None:
            nonlocal asked
            asked += 1
            assert [hit.key for hit in db["docs"].search("title:coal title:t7")] == before
            if layout(db).building:
                with pytest.raises(InvalidQuery, match="body"):
                    db["docs"].search("sand", fields=["body"])

        db.create_index(docs, hp.FullText("body"), progress=meanwhile)
        assert asked > 3
        right(db, "title", "body")
        assert len(tables(db)) == 1 and not layout(db).unfinished
        db.drop_index(docs, hp.FullText("body"))
        right(db, "title")
        assert len(tables(db)) == 1 and not layout(db).unfinished


KILLED = """
import sys
import homeport as hp
docs = hp.Collection("docs", indexes=[hp.FullText("title")])
db = hp.open(sys.argv[1], collections=[docs])
def tell(progress):
    print(progress.rows, flush=True)
    if progress.rows > 2000:
        sys.stdin.readline()   # waits for the kill in the middle of a build
db.create_index(docs, hp.FullText("body"), progress=tell)
"""


def test_a_build_that_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    docs = filled(path, hp.FullText("title"))
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while int(process.stdout.readline()) <= 2_000:
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with hp.open(path, collections=[docs]) as db:
        assert list(layout(db).building) and layout(db).next_text is not None
        right(db, "title")
        db["docs"].put({"id": "between", "title": "T7 coal", "body": "sand"})
        db["docs"].patch("d00000", body="sand shale sand")
        db["docs"].delete("d05999")
        seen: list[IndexProgress] = []
        db.create_index(docs, hp.FullText("body"), progress=seen.append)
        assert seen[0].rows > 2_000, "not from the beginning"
        right(db, "title", "body")


def test_a_declaration_with_more_text_is_followed_in_steps(tmp_path: Path) -> None:
    filled(tmp_path / "a.db", hp.FullText("title"))
    more = hp.Collection("docs", indexes=[hp.FullText("title"), hp.FullText("body"), "title"])
    seen: list[IndexProgress] = []
    with hp.open(tmp_path / "a.db", collections=[more], index_progress=seen.append) as db:
        assert len(seen) > 3, "not one transaction"
        right(db, "title", "body")
        assert db["docs"].where(F.title == "T7 coal").explain().index == "title"
        assert not layout(db).unfinished
    less = hp.Collection("docs", indexes=[hp.FullText("body")])
    with hp.open(tmp_path / "a.db", collections=[less]) as db:
        right(db, "body")
        assert len(tables(db)) == 1 and not layout(db).unfinished
    with hp.open(tmp_path / "a.db", collections=[hp.Collection("docs")]) as db:
        assert tables(db) == []


def test_begun_only_it_is_completed_later(tmp_path: Path) -> None:
    filled(tmp_path / "a.db")
    docs = hp.Collection("docs", indexes=[hp.FullText("body")])
    with hp.open(tmp_path / "a.db", collections=[docs], defer_indexes=True) as db:
        with pytest.raises(InvalidQuery, match="being built"):
            db["docs"].search("sand")
        assert db["docs"].where(F.body.matches("sand")).count() > 1_000
        db["docs"].put({"id": "x", "body": "basalt"})
        db.build_indexes()
        right(db, "body")


def test_words_of_another_version_are_replaced_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = filled(tmp_path / "a.db", hp.FullText("body"))
    for module in (sqlite_schema, sqlite_declared, sqlite_schema.sqlite_textbuild):
        monkeypatch.setattr(module, "TOKENIZER", 99)
    seen: list[IndexProgress] = []
    with hp.open(tmp_path / "a.db", collections=[docs], index_progress=seen.append) as db:
        assert len(seen) > 3
        assert layout(db).words == 99
        assert len(tables(db)) == 1
        assert len(db["docs"].search("sand")) == 20


def test_rebuilt_text_is_that_of_the_documents(tmp_path: Path) -> None:
    docs = filled(tmp_path / "a.db", hp.FullText("title"), rows=500)
    with hp.open(tmp_path / "a.db", collections=[docs]) as db:
        db.create_index(docs, hp.FullText("body"))
        name = tables(db)[0]
        db._driver.engine.session.execute(f'DELETE FROM "{name}" WHERE rowid<50').fetchall()  # type: ignore[attr-defined]
        assert db.verify_text() != []
        db.rebuild_text("docs")
        right(db, "title", "body")
        assert len(tables(db)) == 1


def test_in_memory_too(tmp_path: Path) -> None:
    docs = hp.Collection("docs")
    with hp.open(":memory:", collections=[docs]) as db:
        db["docs"].put_many(document(n) for n in range(50))
        db.create_index(docs, hp.FullText("body"))
        db["docs"].put({"id": "x", "body": "basalt"})
        assert [hit.key for hit in db["docs"].search("basalt")] == ["x"]
        assert db["docs"].suggest("bas") == ["basalt"]
        db.create_index(docs, hp.FullText("title"))
        assert db["docs"].search("t7 coal").total > 0
        assert db.drop_index(docs, hp.FullText("body")) is True
        assert db["docs"].search("basalt").total == 0


REBUILT = """
import os, sys
import homeport as hp
from homeport.core import indexing
from homeport.storage.sqlite_step import BuildStep
docs = hp.Collection("docs", indexes=[hp.FullText("title")])
take, left = BuildStep.take, [int(sys.argv[2])]
def counted(self, limit, pages):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), 9)   # inside the transaction of this step
    take(self, limit, pages)
BuildStep.take = counted
indexing.MOST_ROWS = 500
with hp.open(sys.argv[1], collections=[docs]) as db:
    db.rebuild_text()
"""


@pytest.mark.parametrize("kill_at", [1, 3, 20])
def test_a_rebuild_that_was_killed_is_gone_on_with(kill_at: int, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    docs = filled(path, hp.FullText("title"))
    with hp.open(path, collections=[docs]) as db:
        execute: Execute = db._driver.engine.session.execute  # type: ignore[attr-defined]
        execute("delete from \"f_docs.text\" where rowid=2").fetchall()
        assert len(db.verify_text()) == 1
    killed = subprocess.run([sys.executable, "-c", REBUILT, str(path), str(kill_at)], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    with hp.open(path, collections=[docs], defer_indexes=True) as db:
        assert layout(db).unfinished
        assert db["docs"].search("coal").total, "what was there is searched meanwhile"
        begun = sqlite_textbuild.read_position(db._driver.engine.session.execute, "docs")  # type: ignore[attr-defined]
        assert kill_at == 20 or (begun is not None and (begun.rows > 0) == (kill_at > 1))
    with hp.open(path, collections=[docs]) as db:
        assert not layout(db).unfinished
        assert len(tables(db)) == 1
        right(db, "title")


def test_a_rebuild_and_the_end_of_an_index_go_in_small_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction of them takes more rows than a step may, and another writer gets in between
    any two."""
    docs = filled(tmp_path / "a.db", hp.FullText("title"), rows=3_000)
    tagged = hp.Multi("tags")
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr(sqlite_declared, "GAP_S", 0)
    monkeypatch.setattr(sqlite_schema, "CHUNK", 100)
    monkeypatch.setattr("homeport.core.indexing.MOST_ROWS", 400)
    with (
        hp.open(tmp_path / "a.db", collections=[docs]) as db,
        hp.open(tmp_path / "a.db", collections=[docs], busy_timeout_s=0.5) as other,
    ):
        db["docs"].patch_many((f"d{n:05}", {"tags": [f"t{n % 5}", f"u{n % 3}", "all"]}) for n in range(3_000))
        db.create_index(docs, tagged)
        take = sqlite_step.BuildStep.take

        def counted(self: Any, limit: int, pages: int) -> None:
            before = self.execute("SELECT total_changes()").get
            take(self, limit, pages)
            steps.append((limit, self.execute("SELECT total_changes()").get - before))
            assert self.rows <= limit <= 400

        step = sqlite_declared.Declarations.step

        def beside(self: Any, *given: Any) -> Any:
            other["docs"].put({"id": "beside", "title": f"basalt {len(steps)}"})
            assert other["docs"].search("basalt").total == 1
            return step(self, *given)

        monkeypatch.setattr(sqlite_step.BuildStep, "take", counted)
        monkeypatch.setattr(sqlite_declared.Declarations, "step", beside)
        db.rebuild_text()
        assert len(steps) > 8
        right(db, "title")
        steps.clear()
        assert db.drop_index(docs, tagged)
        assert len(steps) >= 9_000 // 400
        assert max(changed for _, changed in steps) <= 400 + 20
        assert not layout(db).unfinished
        assert db["docs"].where(F.tags.contains("t1")).count() == 600
        right(other, "title")
        names = [n for (n,) in db._driver.engine.session.execute("SELECT name FROM sqlite_schema").fetchall()]  # type: ignore[attr-defined]
        assert not [name for name in names if "tags" in name]


def test_the_end_of_an_index_that_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    docs = filled(path, hp.Multi("body"))
    with hp.open(path, collections=[hp.Collection("docs")], defer_indexes=True) as db:
        assert layout(db).old_sides, "a declaration without it leaves it to be emptied"
        assert db["docs"].where(F.body == "x").explain().scan
    with hp.open(path, collections=[docs]) as db:  # it comes back before the old one is gone
        assert not layout(db).unfinished
        assert db._driver.engine.store.check() == []  # type: ignore[attr-defined]


def test_a_build_merges_in_steps_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FTS5 would merge inside whoever's commit comes next. A complete table has its usual limits
    again and few segments; a large one keeps more, so that no word of all documents is merged at
    once."""
    monkeypatch.setattr(sqlite_declared, "GAP_S", 0)
    monkeypatch.setattr("homeport.core.indexing.MOST_ROWS", 60)
    monkeypatch.setattr("homeport.core.indexing.LEAST_PAGES", 1)
    monkeypatch.setattr("homeport.core.indexing.MOST_PAGES", 2)
    docs = hp.Collection("docs")
    take = sqlite_step.BuildStep.take
    kinds: list[str] = []
    settings: set[tuple[int, ...]] = set()
    most = [0]

    def segments(execute: Execute, ident: str) -> int:
        return execute(f'SELECT count(DISTINCT segid) FROM "{ident}_idx"').get  # type: ignore[no-any-return]

    def configured(execute: Execute, ident: str) -> tuple[int, ...]:
        found = dict(execute(f'SELECT k, v FROM "{ident}_config"').fetchall())
        return found["automerge"], found["usermerge"], found["crisismerge"]

    def noted(self: Any, limit: int, pages: int) -> None:
        before = self.layout.next_text
        take(self, limit, pages)
        assert not (self.rows and self.pages)
        kinds.append("fill" if self.rows else "merge")
        if before is not None and self.layout.next_text is not None:
            ident = sql.text_ident("docs", before.name)
            settings.add(configured(self.execute, ident))
            most[0] = max(most[0], segments(self.execute, ident))

    monkeypatch.setattr(sqlite_step.BuildStep, "take", noted)
    for large, field in ((False, "title"), (True, "body")):
        kinds.clear()
        settings.clear()
        most[0] = 0
        if large:
            monkeypatch.setattr(sqlite_textbuild, "TOO_LARGE", ROWS - 1)
        with hp.open(tmp_path / f"{field}.db", collections=[docs], durability="relaxed") as db:
            db["docs"].put_many(document(n) for n in range(ROWS))
            db.create_index(docs, hp.FullText(field))
            assert kinds.count("fill") > ROWS // 70
            assert kinds.count("merge") > kinds.count("fill") // sqlite_textbuild.MERGED
            assert settings <= {(0, 16, 256), (0, 4, 256)}
            assert most[0] < 3 * sqlite_textbuild.MERGED
            execute = db._driver.engine.session.execute  # type: ignore[attr-defined]
            ident = sql.text_ident("docs", layout(db).text_name)
            assert configured(execute, ident) == ((16, 4, 64) if large else (4, 4, 16))
            assert segments(execute, ident) <= (2 * sqlite_textbuild.MERGED if large else 8)
            right(db, field)
            for n in range(150):
                db["docs"].put(document(n))
            right(db, field)
            db.optimize()
            assert segments(execute, ident) == 1
