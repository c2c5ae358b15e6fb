"""Merge types on the node (D4): a counter that everybody increments is never sent in vain."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

import homeport as hp
from homeport.server import schema
from homeport.server.rules import ServerCollection
from tests.e2e.world import Node

from .helpers import Device, patch, put, results

TYPES = {"hits": hp.Counter(), "tags": hp.SetOf(), "log": hp.ListOf("id"), "note": hp.Text()}


async def test_a_stale_patch_of_typed_fields_is_combined_with_the_row(dsn, make_node):
    node = await make_node(dsn, [ServerCollection("wells", fields=TYPES)])
    a, b = Device(node, "ann"), Device(node, "bob")
    row = {"id": "w", "hits": 1, "tags": ["x"], "log": [{"id": 1}], "plain": 0, "note": "a"}
    await a.sync(put("w", row))
    await b.sync()
    stale = b.token("w")
    seen = {"hits": 1, "tags": ["x"], "log": [{"id": 1}]}
    change = {"hits": 3, "tags": ["x", "y"], "log": [{"id": 1}, {"id": 2}]}
    assert results(await a.sync(patch("w", a.token("w"), set=change, old=seen))) == ["applied"]
    change = {"hits": 3, "tags": ["z"], "log": [{"id": 1, "t": 1}]}
    assert results(await b.sync(patch("w", stale, set=change, old=seen))) == ["applied"]
    assert b.docs()["w"] == {
        "id": "w", "hits": 5, "tags": ["y", "z"], "log": [{"id": 1, "t": 1}, {"id": 2}], "plain": 0,
        "note": "a",
    }  # fmt: skip
    # A clash inside a type, a text, and what is not of the type at all: the device decides.
    for change, seen in (
        ({"log": [{"id": 1, "t": 2}, {"id": 2}]}, {"log": [{"id": 1}, {"id": 2}]}),
        ({"note": "abc"}, {"note": "ab"}),
        ({"hits": "many"}, {"hits": 1}),
        ({"plain": 2}, {"plain": 1}),
    ):
        verdicts = await b.sync(patch("w", stale, set=change, old=seen))
        assert results(verdicts) == ["conflict:changed"], change


async def test_the_types_are_announced_and_adopted(dsn, make_node):
    node = await make_node(dsn)
    device = Device(node)
    request = device.request()
    request.pull.fields = {"wells": {"hits": "counter", "x": "of-tomorrow"}, "other": {"a": "set"}}
    reply = await node.sync(device.claims, request)
    assert reply.collections["wells"].fields == {"hits": "counter", "x": "of-tomorrow"}
    other = Device(node, "bob")
    assert (await node.sync(other.claims, other.request())).collections["wells"].fields == {
        "hits": "counter",
        "x": "of-tomorrow",
    }


async def test_a_database_of_the_first_version_is_brought_up(dsn, make_node):
    connection = await asyncpg.connect(dsn)
    await schema.install(connection)
    await connection.execute("alter table homeport.collections drop column fields")
    await connection.execute("update homeport.settings set value = '1' where name = 'schema_version'")
    await connection.close()
    node = await make_node(dsn, [ServerCollection("wells", fields={"hits": "counter"})])
    device = Device(node)
    reply = await node.sync(device.claims, device.request())
    assert reply.collections["wells"].fields == {"hits": "counter"}


@pytest.fixture
def dev_node(database_dsn, tmp_path):
    node = Node(database_dsn, tmp_path)
    yield node
    node.stop()


async def test_a_hot_counter_starves_nobody(dev_node, tmp_path):
    """Four devices count one number up, all at once, without waiting for each other."""
    wells = hp.Collection("wells", sync=hp.Synced(fields={"hits": hp.Counter()}))
    devices = [await hp.open_async(tmp_path / f"{n}.db", collections=[wells]) for n in range(4)]
    syncs = [db.sync(dev_node.url, token=dev_node.token, live=False) for db in devices]
    await devices[0][wells].put({"id": "w", "hits": 0})
    for sync in syncs:
        await sync.now(timeout_s=30)

    async def count(n: int) -> None:
        for _ in range(15):
            await devices[n][wells].update("w", lambda doc: {**doc, "hits": doc["hits"] + 1})
            await syncs[n].now(timeout_s=60)

    await asyncio.gather(*(count(n) for n in range(4)))
    for sync in (*syncs, *syncs):
        await sync.now(timeout_s=30)
    for db, sync in zip(devices, syncs):
        assert await db[wells].get("w") == {"id": "w", "hits": 60}
        assert (await sync.status()).conflicts == 0
        assert await sync.resolutions() == []
        await db.close()
