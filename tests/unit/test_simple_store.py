"""The simple store on a file: crashes at every step, a full disk, others at the same file."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeport as hp
from homeport.errors import (
    Busy,
    CannotOpen,
    CannotSync,
    Closed,
    Corrupted,
    FileTooNew,
    QuotaExceeded,
    ReadOnly,
    SchemaMismatch,
    StorageError,
    UsageError,
)
from homeport.storage.disk import Disk
from homeport.storage.json_file import JsonFile

DOCS = hp.Collection("docs", indexes=["n", hp.Unique("name"), hp.Multi("tags")])


def opened(path: Path, **options: Any) -> hp.Database:
    return hp.open(path, collections=[DOCS], storage="simple", **options)


class Crash(BaseException):
    """The machine stops here."""


class CrashingDisk(Disk):
    """A disk whose power goes at a step: what was not synced may be lost or half there.

    The folder's state is two layers: names → contents as the system shows them, and as they would
    be found after a power cut.
    """

    def __init__(self, seed: int, stop: int) -> None:
        self.seen: dict[str, bytes] = {}
        self.safe: dict[str, bytes] = {}
        self.synced: dict[str, bytes] = {}  # contents that are on the disk, under whatever name
        self.chance = random.Random(seed)
        self.steps, self.stop = 0, stop
        self.number = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.stop:
            raise Crash

    def read(self, path: str) -> bytes | None:
        return self.seen.get(path)

    def stamp(self, path: str) -> tuple[int, int, int] | None:
        found = self.seen.get(path)
        return None if found is None else (0, len(found), hash(found))

    def write(self, path: str, data: bytes, like: str, *, sync: bool) -> None:
        self.step()
        self.synced.pop(path, None)
        self.seen[path] = b""
        self.step()
        self.seen[path] = data[: len(data) // 2]
        self.step()
        self.seen[path] = data
        self.step()
        if sync:
            self.synced[path] = data
        self.step()

    def rename(self, source: str, target: str) -> None:
        self.step()
        self.seen[target] = self.seen.pop(source)
        if source in self.synced:
            self.synced[target] = self.synced.pop(source)
        else:
            self.synced.pop(target, None)
        self.step()

    def sync_folder(self, path: str) -> None:
        self.step()
        self.safe = {name: self.synced.get(name, data[: len(data) // 2]) for name, data in self.seen.items()}
        self.step()

    def remove(self, path: str) -> None:
        self.seen.pop(path, None)

    def free_bytes(self, folder: str) -> int | None:
        return None

    def power_cut(self) -> None:
        """Names are those of now, or those of the last sync of the folder; contents that were not
        synced are cut somewhere."""
        now = {
            name: self.synced.get(name, data[: self.chance.randrange(len(data) + 1)])
            for name, data in self.seen.items()
        }
        self.seen = dict(self.chance.choice([now, self.safe]))
        self.stop = 0


CHANGES = st.lists(
    st.dictionaries(
        st.sampled_from([f"docs/d/{n}" for n in range(5)]),
        st.one_of(st.none(), st.text(max_size=20).map(json.dumps)),
        min_size=1,
        max_size=4,
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(commits=CHANGES, stop=st.integers(1, 60), seed=st.integers(0, 2**20))
def test_a_crash_at_any_step_leaves_a_whole_commit_and_all_that_were_acknowledged(
    commits: list[dict[str, str | None]], stop: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = str(tmp_path_factory.mktemp("crash") / "a.json")
    disk = CrashingDisk(seed, stop)
    states: list[dict[str, str]] = [{}]
    acknowledged = 0
    file = JsonFile(path, disk=disk)
    file.load()
    try:
        for changes in commits:
            after = {name: text for name, text in {**states[-1], **changes}.items() if text is not None}
            states.append(after)
            file.write(changes)
            acknowledged += 1
    except Crash:
        disk.power_cut()
    file.close()
    disk.stop = 0
    again = JsonFile(path, disk=disk)
    try:
        found = again.load()
        assert found in states[acknowledged : acknowledged + 2], (found, states, acknowledged)
        again.write({"docs/d/9": '"after"'})
    finally:
        again.close()


def test_a_process_that_is_killed_leaves_what_it_acknowledged(tmp_path: Path) -> None:
    program = """
import sys, homeport as hp
docs = hp.Collection("docs")
with hp.open(sys.argv[1], collections=[docs], storage="simple") as db:
    for n in range(100_000):
        db[docs].put_many([{"id": f"a{n}"}, {"id": f"b{n}"}])
        print(n, flush=True)
"""
    path = tmp_path / "a.json"
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = -1
    for line in process.stdout:
        last = int(line)
        if last == 20:
            process.kill()
    process.wait()
    process.stdout.close()
    with hp.open(path, collections=[hp.Collection("docs")], storage="simple") as db:
        keys = set(db["docs"].keys())
    total = len(keys) // 2
    assert total in (last + 1, last + 2)
    assert keys == {f"{kind}{n}" for kind in "ab" for n in range(total)}, "no half of a commit"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_full_disk_is_typed_and_changes_nothing(
    step: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with opened(tmp_path / "a.json") as db:
        db[DOCS].put({"id": "a", "n": 1})
        monkeypatch.setattr(Disk, step, refuse)
        with pytest.raises(StorageError) as caught:
            db[DOCS].put_many([{"id": "a", "n": 2}, {"id": "b"}])
        assert isinstance(caught.value, QuotaExceeded) is (number != errno.EIO)
        assert db[DOCS].all() == [{"id": "a", "n": 1}]
        monkeypatch.undo()
        db[DOCS].put({"id": "c"})
    with opened(tmp_path / "a.json", readonly=True) as db:
        assert sorted(db[DOCS].keys()) == ["a", "c"]
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_that_cannot_be_synced_leaves_no_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is renamed and nobody knows whether that lasts: nothing more is written here."""
    db = opened(tmp_path / "a.json")

    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(Disk, "sync_folder", refuse)
    with pytest.raises(StorageError):
        db[DOCS].put({"id": "a"})
    monkeypatch.undo()
    with pytest.raises(Closed, match="nobody knows"):
        db[DOCS].put({"id": "b"})
    db.close()
    with opened(tmp_path / "a.json") as db:
        assert db[DOCS].keys() in ([], ["a"])


def test_the_quota(tmp_path: Path) -> None:
    with opened(tmp_path / "a.json", max_bytes=2**20) as db:
        with pytest.raises(QuotaExceeded):
            db[DOCS].put_many({"id": n, "text": "x" * 100_000} for n in range(20))
        db[DOCS].put({"id": "a", "text": "x" * 900_000})
    with opened(tmp_path / "a.json", max_bytes=2**20) as db:
        with pytest.raises(QuotaExceeded):
            db[DOCS].put({"id": "b", "text": "x" * 200_000})
        assert db[DOCS].keys() == ["a"]


def increment(path: str, times: int) -> None:
    for _ in range(times):
        with hp.open(path, collections=[DOCS], storage="simple", busy_timeout_s=30) as db:
            document = db[DOCS].get("a", {"id": "a", "n": 0})
            db[DOCS].put({"id": "a", "n": document["n"] + 1})


def test_two_processes_lose_no_update(tmp_path: Path) -> None:
    path = str(tmp_path / "a.json")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=increment, args=(path, 10)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    with opened(tmp_path / "a.json") as db:
        assert db[DOCS].get("a") == {"id": "a", "n": 20}
        with pytest.raises(Busy, match="open elsewhere"):
            opened(tmp_path / "a.json", busy_timeout_s=0.05)
    with opened(tmp_path / "a.json", readonly=True) as one, opened(tmp_path / "a.json", readonly=True) as two:
        assert one[DOCS].all() == two[DOCS].all()
        with pytest.raises(ReadOnly):
            one[DOCS].put({"id": "b"})
        with pytest.raises(Busy):
            opened(tmp_path / "a.json", busy_timeout_s=0.05)


def test_a_forked_child_does_not_write_over_its_parent(tmp_path: Path) -> None:
    with opened(tmp_path / "a.json") as db:
        db[DOCS].put({"id": "a"})
        child = os.fork()
        if child == 0:
            code = 1
            try:
                db[DOCS].put({"id": "child"})
            except Closed:
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with pytest.raises(Busy):
            opened(tmp_path / "a.json", busy_timeout_s=0.05)
        db[DOCS].put({"id": "b"})
    with opened(tmp_path / "a.json") as db:
        assert db[DOCS].keys() == ["a", "b"]


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    hp.open(tmp_path / "sqlite", collections=[DOCS]).close()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "json").write_text('{"name": "package", "version": 1, "items": {}}')
    (tmp_path / "list").write_text("[1, 2]")
    for name in ("sqlite", "text", "json", "list"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(CannotOpen, match="not touched"):
            opened(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    head = '{"homeport":"simple store",'
    (tmp_path / "new").write_text(head + '"version":2,"items":{}}')
    with pytest.raises(FileTooNew):
        opened(tmp_path / "new")
    for n, text in enumerate(
        (
            '"version":1,"items":{',
            '"version":1,"items":{"docs/docs/\\"a\\"":{"r":1}}}',
            '"version":1,"items":{"docs/docs/\\"a\\"":{"r":1,"c":1,"m":1,"d":{"id":"b"}}}}',
            '"version":1,"items":{"meta/x":5}}',
            '"version":"x","items":{}}',
        )
    ):
        (tmp_path / f"damaged{n}").write_text(head + text)
        with pytest.raises(Corrupted):
            opened(tmp_path / f"damaged{n}")
        opened(tmp_path / "fresh").close()
    with pytest.raises(CannotOpen):
        opened(tmp_path / "no" / "a.json")
    with pytest.raises(hp.HomeportError):
        hp.open(tmp_path / "fresh", collections=[DOCS])


def test_what_another_program_writes_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with opened(path) as db:
        db[DOCS].put({"id": "a", "text": "before"})
        path.write_text(path.read_text().replace("before", "edited by hand"))
        with pytest.raises(StorageError, match="another program"):
            db[DOCS].put({"id": "b"})
    with opened(path) as db:
        assert db[DOCS].all() == [{"id": "a", "text": "edited by hand"}]


def test_declarations_follow_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    other = hp.Collection("other")
    with hp.open(path, collections=[DOCS, other], storage="simple") as db:
        db[DOCS].put_many([{"id": "a", "name": "x"}, {"id": 1.0, "name": "y", "tags": ["t"]}])
        db[other].put({"id": "kept"})
    with opened(path) as db:
        db[DOCS].put({"id": 1, "name": "z"})
        assert len(db[DOCS].all()) == 2, "1 and 1.0 are one key"
        with pytest.raises(hp.UniqueViolation):
            db[DOCS].put({"id": "b", "name": "x"})
        with pytest.raises(UsageError):
            db.create_index(DOCS, "name")
    with hp.open(path, collections=[other], storage="simple") as db:
        assert db[other].all() == [{"id": "kept"}], "a collection that was not declared is kept"
    with pytest.raises(SchemaMismatch):
        hp.open(path, collections=[hp.Collection("docs", key="name")], storage="simple")
    with opened(path) as db:
        db[DOCS].put_many([{"id": "b", "n": 1}, {"id": "c", "n": 1}])
    with pytest.raises(hp.errors.DuplicateValues):
        hp.open(path, collections=[hp.Collection("docs", indexes=[hp.Unique("n")])], storage="simple")
    opened(path).close()


async def test_asyncio_live_queries_and_what_it_refuses(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    async with hp.open_async(path, collections=[DOCS], storage="simple") as db:
        async with db[DOCS].where(hp.F.n > 0).live() as live:
            await live.next(timeout_s=5)
            await db[DOCS].put({"id": "a", "n": 1})
            change = await live.next(timeout_s=5)
            assert change is not None and [one["id"] for one in change.added] == ["a"]
        with pytest.raises(CannotSync, match="simple"):
            db.sync("https://sync.example.com", token="t")
        info = await db.storage_info()
        assert (info.engine, info.collections[0].documents) == ("JSON file", 1)
    for wrong in (
        {"key": "secret"}, {"defer_indexes": True}, {"index_progress": print}, {"storage": "other"},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            hp.open(path, collections=[DOCS], **{"storage": "simple", **wrong})  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        hp.open(":memory:", collections=[DOCS], storage="simple")
    with pytest.raises(UsageError):
        hp.open(path, collections=None, storage="simple")


def test_permissions_of_the_file_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with opened(path) as db:
        path.chmod(0o640)
        db[DOCS].put({"id": "a"})
    assert path.stat().st_mode & 0o777 == 0o640
