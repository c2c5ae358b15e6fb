"""A forked child leaves the connections of its parent alone."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import homeport as hp

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

DOCS = hp.Collection("docs", indexes=["n"])


def in_child(work: Callable[[], object]) -> str:
    """What ``work`` answers in a forked process, or the error it raises."""
    source, sink = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks with threads
        child = os.fork()
    if child == 0:
        try:
            try:
                text = str(work())
            except BaseException as error:  # noqa: BLE001 - told to the parent
                text = f"{type(error).__name__}: {error}"
            os.write(sink, text.encode())
        finally:
            os._exit(0)
    os.close(sink)
    with os.fdopen(source) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def test_a_child_finds_the_database_closed_and_may_open_it_again(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with hp.open(path, collections=[DOCS]) as db:
        db[DOCS].put({"id": "a"})

        def again() -> object:
            db.close()
            with hp.open(path, collections=[DOCS]) as own:
                return own[DOCS].put({"id": "child"})

        for work in (
            lambda: db[DOCS].get("a"),
            lambda: db[DOCS].put({"id": "b"}),
            lambda: db[DOCS].where(hp.F.n > 1).all(),
            lambda: db[DOCS].live(),
            lambda: db.transaction().__enter__(),
        ):
            assert "forked" in in_child(work)
        assert in_child(again) == "child"
        assert db[DOCS].keys() == ["a", "child"]

        # Also while a transaction is open here, whose lock the child would wait for.
        with db.transaction():
            db[DOCS].put({"id": "c"})
            assert "forked" in in_child(lambda: db[DOCS].put({"id": "d"}))
        assert db[DOCS].count() == 3
    with hp.open(path, collections=[DOCS]) as db:
        assert db[DOCS].count() == 3


def test_a_child_of_an_asyncio_program(tmp_path: Path) -> None:
    async def main() -> None:
        async with hp.open_async(tmp_path / "a.db", collections=[DOCS]) as db:
            await db[DOCS].put({"id": "a"})

            async def put() -> object:
                return await db[DOCS].put({"id": "b"})

            assert "forked" in in_child(lambda: asyncio.run(put()))
            assert await db[DOCS].count() == 1

    asyncio.run(main())
