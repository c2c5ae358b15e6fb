"""Puts the stage up, lets the story run, takes the stage down."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from rich.console import Console

from homeport.cli.demo import report
from homeport.cli.demo.data import well_log_files
from homeport.cli.demo.screen import Screen
from homeport.cli.demo.stage import Node
from homeport.cli.demo.story import Facts, Story
from homeport.errors import CannotOpen, DatabaseUnavailable, ReadOnly

MARK = ".homeport-demo"
"""Only a folder with this file in it is emptied."""


def run_demo(folder: Path, data: Path, postgres: str | None, console: Console) -> Facts:
    """The whole demo → its facts; ``facts.wrong`` is empty when everything held."""
    _empty(folder)
    screen = Screen(console)
    screen.act(0, "Getting ready")
    files = well_log_files(data)
    screen.done(f"{len(files)} LAS files from the test data of lasio (MIT), checksum verified")
    with _database(postgres, screen) as dsn:
        node = Node(dsn, folder)
        with node:
            screen.done(f"One node on {node.url}")
            story = Story(screen, folder, data, node, dsn)
            story.tell()
    report.show(console, story.facts, folder)
    return story.facts


def _empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise CannotOpen(
                f"{folder} is not empty and was not made by the demo.",
                action="Name another folder with --folder.",
            )
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()
    except OSError as error:
        raise ReadOnly(
            f"The folder {folder} cannot be made: {error.strerror}.",
            action="Name another folder with --folder.",
        ) from error


@contextmanager
def _database(postgres: str | None, screen: Screen) -> Iterator[str]:
    """A PostgreSQL of our own; or, on a given server, a database that only the demo uses."""
    if postgres is None:
        from homeport.server.postgres import Postgres  # noqa: PLC0415 - needs the server's extra

        with Postgres.start() as server:
            screen.done(f"An embedded PostgreSQL on port {server.port}")
            yield server.dsn
        return
    name = f"homeport_demo_{secrets.token_hex(4)}"
    asyncio.run(_execute(postgres, f'create database "{name}"'))
    try:
        screen.done(f"A database of its own on the given PostgreSQL: {name}")
        yield urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))
    finally:
        asyncio.run(_execute(postgres, f'drop database if exists "{name}" with (force)'))


async def _execute(dsn: str, statement: str) -> None:
    import asyncpg  # noqa: PLC0415 - needs the server's extra

    try:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailable(
            f"PostgreSQL did not do what the demo needs: {error}",
            action="Check the connection string; the user needs the right to create a database.",
        ) from error
