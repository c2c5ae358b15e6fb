"""A shared folder on a real disk: killed at every operation, several processes, both facades."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import homeport as hp
from homeport.backends import SharedFolder
from homeport.errors import CannotOpen, Unreachable, UsageError

from .folder_writer import MINE, WELLS, work

WRITER = Path(__file__).with_name("folder_writer.py")


def killed_at(file: Path, folder: Path, number: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(WRITER), str(file), str(folder), str(number)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_r06_killed_at_every_operation_on_the_folder(tmp_path):
    """Each device adds 1 to one counter and is killed once, each at another operation."""
    folder = tmp_path / "shared"
    with hp.open(tmp_path / "first.db", collections=[WELLS]) as db:
        db["wells"].put({"id": "w1", "n": 0})
        db.sync(SharedFolder(folder, create=True)).now()
    number = 0
    while True:
        number += 1
        run = killed_at(tmp_path / f"{number}.db", folder, number)
        if run.returncode == 0:
            break  # it does not come to so many operations
        assert run.returncode == -9, run.stderr
        work(tmp_path / f"{number}.db", folder)
    assert number > 5
    with hp.open(tmp_path / "fresh.db", collections=[WELLS]) as db:
        db.sync(SharedFolder(folder)).now()
        assert db["wells"].get("w1")["n"] == number
        for n in range(1, number + 1):
            with hp.open(tmp_path / f"{n}.db", collections=[WELLS, MINE]) as device:
                device.sync(SharedFolder(folder)).now()
                assert device["wells"].get("w1") == db["wells"].get("w1")


def test_two_devices_in_one_program_with_hints(tmp_path):
    folder = tmp_path / "shared"
    SharedFolder(folder, create=True)
    with hp.open(tmp_path / "a.db", collections=[WELLS]) as a, hp.open(
        tmp_path / "b.db", collections=[WELLS]
    ) as b:
        left = a.sync(SharedFolder(folder, poll_s=0.05), poll_s=60)
        right = b.sync(SharedFolder(folder, poll_s=0.05), poll_s=60)
        left.start()
        right.start()
        a["wells"].put({"id": "w1", "n": 1})
        for _ in range(400):
            if b["wells"].get("w1") is not None:
                break
            time.sleep(0.05)
        assert b["wells"].get("w1") == {"id": "w1", "n": 1}, right.status()
        assert left.verify().different == 0
        left.stop()
        right.stop()


def test_the_other_facade(tmp_path):
    async def main() -> None:
        folder = SharedFolder(tmp_path / "shared", create=True)
        async with hp.open_async(tmp_path / "a.db", collections=[WELLS]) as a:
            await a["wells"].put({"id": "w1"})
            await a.sync(folder).now()
        async with hp.open_async(tmp_path / "b.db", collections=[WELLS]) as b:
            await b.sync(folder).now()
            assert await b["wells"].get("w1") == {"id": "w1"}

    asyncio.run(main())


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def link(source: object, target: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", link)
    folder = SharedFolder(tmp_path / "shared", create=True)
    with hp.open(tmp_path / "a.db", collections=[WELLS]) as db:
        db["wells"].put({"id": "w1"})
        db.sync(folder).now()
    with hp.open(tmp_path / "b.db", collections=[WELLS]) as db:
        db.sync(SharedFolder(folder.path)).now()
        assert db["wells"].get("w1") == {"id": "w1"}


def test_a_folder_that_is_not_there_is_never_taken_for_an_empty_one(tmp_path):
    folder = SharedFolder(tmp_path / "shared", create=True)
    with hp.open(tmp_path / "a.db", collections=[WELLS]) as db:
        db["wells"].put({"id": "w1"})
        sync = db.sync(folder)
        sync.now()
        (tmp_path / "shared").rename(tmp_path / "elsewhere")
        (tmp_path / "shared").mkdir()
        db["wells"].put({"id": "w2"})
        with pytest.raises(Unreachable, match="Is it mounted"):
            sync.now(timeout_s=0.5)
        assert sync.status().queued == 1 and list((tmp_path / "shared").iterdir()) == []
        (tmp_path / "shared").rmdir()
        (tmp_path / "elsewhere").rename(tmp_path / "shared")
        sync.now()
        assert sync.status().queued == 0


def test_what_others_put_into_the_folder_costs_nobody_anything(tmp_path, monkeypatch):
    """Conflict copies, empty and half files, brackets, and a folder that goes away in between."""
    folder = SharedFolder(tmp_path / "shared", create=True)
    changes = folder.path / "changes"
    with hp.open(tmp_path / "a.db", collections=[WELLS]) as db:
        db["wells"].put({"id": "w1"})
        db.sync(folder).now()
    (mine,) = changes.glob("*/*.json")
    whole = mine.read_bytes()
    for name, data in {
        f"{mine.stem} (conflicted copy 2026-11-21).json": whole,
        "0000000009-UPPER.JSON": whole,
        "0000000009-empty.json": b"",
        "0000000009-half.json": whole[: len(whole) // 2],
        "0000000009-brackets.json": b"[" * 100_000,
        "0000000009-bytes.json": b'{"homeport":1,"sha256":"\xff\xfe","bytes":0}\n',
        ".DS_Store": b"x",
    }.items():
        (mine.parent / name).write_bytes(data)
    (changes / "desktop.ini").write_text("x")
    (changes / "gone").mkdir()
    scandir = os.scandir

    def racing(path):
        if Path(path).name == "gone":
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", racing)
    with hp.open(tmp_path / "b.db", collections=[WELLS]) as db:
        db.sync(SharedFolder(folder.path)).now()
        assert db["wells"].all() == [{"id": "w1"}]
        db["wells"].put({"id": "w2"})
        db.sync(SharedFolder(folder.path)).now()
    with hp.open(tmp_path / "a.db", collections=[WELLS]) as db:
        sync = db.sync(folder)
        sync.now()
        assert db["wells"].keys() == ["w1", "w2"] and sync.status().queued == 0


def test_bad_arguments(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(CannotOpen, match="holds other files"):
        SharedFolder(tmp_path, create=True)
    with hp.open(tmp_path / "a.db", collections=[WELLS]) as db:
        with pytest.raises(UsageError, match="no token"):
            db.sync(SharedFolder(tmp_path), token="x")
        with pytest.raises(UsageError, match="no address"):
            db.sync(42, token="x")  # type: ignore[arg-type]
