"""Declared unique indexes, kept across devices by real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest

import homeport as hp
from homeport.core.wire import UniqueIndex
from homeport.errors import DuplicateValues, SchemaError
from homeport.server.rules import ServerCollection

from .helpers import Device, delete, patch, put, results, served

NAMED = ServerCollection("wells", unique=["name"])
TWIN = "rejected:unique"


async def rows(sql: asyncpg.Connection) -> dict[str, Any]:
    found = await sql.fetch("select key, body from homeport.documents where collection = 'wells'")
    return {row["key"]: json.loads(row["body"]) for row in found}


async def test_r03_the_second_of_two_equal_values_is_refused_and_its_unit_with_it(
    dsn, make_node, sql
):
    node = await make_node(dsn, [NAMED])
    a, b, c = Device(node, "ann"), Device(node, "bob"), Device(node, "eve", tenant="t2")
    assert results(await a.sync(put("w1", {"id": "w1", "name": "North"}))) == ["applied"]
    verdicts = await b.sync(
        put("before", {"id": "before"}),
        [put("other", {"id": "other"}), put("w2", {"id": "w2", "name": "North"})],
        put("after", {"id": "after"}),
    )
    assert results(verdicts) == ["applied", TWIN, "applied"]
    assert "wells (name)" in verdicts[1].message and "w1" not in verdicts[1].message
    assert sorted(await rows(sql)) == ["after", "before", "w1"]
    # Another tenant has names of its own.
    assert results(await c.sync(put("w2", {"id": "w2", "name": "North"}))) == ["applied"]
    # A repeated write of the same document is no second one, and a value that was given up is free.
    change = patch("w1", b.token("w1"), set={"name": "South"})
    assert results(await b.sync(change)) == ["applied"]
    assert results(await b.sync(put("w2", {"id": "w2", "name": "North"}))) == ["applied"]
    change = patch("w2", b.token("w2"), set={"name": "South"})
    assert results(await b.sync(change)) == [TWIN]
    assert results(await b.sync(delete("w1", b.token("w1")))) == ["applied"]
    change = patch("w2", b.token("w2"), set={"name": "South"})
    assert results(await b.sync(change)) == ["applied"]


async def test_a_unit_and_a_batch_may_swap_values(dsn, make_node, sql):
    node = await make_node(dsn, [NAMED])
    a = Device(node)
    await a.sync(put("w1", {"id": "w1", "name": "X"}), put("w2", {"id": "w2", "name": "Y"}))
    swap = [
        patch("w1", a.token("w1"), set={"name": "Y"}),
        patch("w2", a.token("w2"), set={"name": "X"}),
    ]
    assert results(await a.sync(swap)) == ["applied"]
    assert {key: doc["name"] for key, doc in a.docs().items()} == {"w1": "Y", "w2": "X"}
    # Given up by one unit and taken by the next, in one batch.
    moved = patch("w1", a.token("w1"), set={"name": "Z"})
    assert results(await a.sync(moved, put("w3", {"id": "w3", "name": "Y"}))) == ["applied"] * 2
    await sql.execute("begin")
    await sql.execute(
        """update homeport.documents set body = '{"id": "w2", "name": "Z"}' where key = 'w2'"""
    )
    with pytest.raises(asyncpg.UniqueViolationError):  # plain SQL keeps to it as well
        await sql.execute("commit")


@pytest.mark.parametrize(
    ("unique", "first", "others"),
    [
        (["n"], {"n": 1}, [({"n": 1.0}, True), ({"n": "1"}, False), ({"n": True}, False)]),
        (["n"], {}, [({}, False), ({"n": None}, False), ({"n": {"a": 1}}, False)]),
        (["n"], {"n": [1, "a"]}, [({"n": [1.0, "a"]}, True), ({"n": ["a", 1]}, False)]),
        (["a.b"], {"a": {"b": "x"}}, [({"a": {"b": "x"}}, True), ({"a": "x"}, False)]),
        ([("f", "n")], {"f": 1, "n": 2}, [({"f": 1, "n": 2}, True), ({"f": 2, "n": 1}, False)]),
        ([("f", "n")], {"f": 1}, [({"f": 1}, False), ({"f": 1, "n": None}, False)]),
        (
            [hp.Multi("tags", unique=True)],
            {"tags": ["a", "b", "a"]},
            [({"tags": ["c", "b"]}, True), ({"tags": []}, False), ({"tags": "a"}, False)],
        ),
        (
            [hp.Index("f", "tags", multi=True, unique=True)],
            {"f": 1, "tags": ["a"]},
            [({"f": 1, "tags": ["b", "a"]}, True), ({"f": 2, "tags": ["a"]}, False)],
        ),
        (["it's"], {"it's": "é" * 5000}, [({"it's": "é" * 5000}, True), ({"it's": "é"}, False)]),
    ],
)
async def test_values_are_compared_as_devices_compare_them(dsn, make_node, unique, first, others):
    node = await make_node(dsn, [ServerCollection("wells", unique=unique)])
    device = Device(node)
    assert results(await device.sync(put("0", {"id": "0", **first}))) == ["applied"]
    for number, (doc, twin) in enumerate(others, 1):
        verdict = results(await device.sync(put(str(number), {"id": str(number), **doc})))
        assert verdict == [TWIN if twin else "applied"], doc
        local = hp.Collection("wells", indexes=[hp.Index(*i, unique=True) if isinstance(i, tuple)
            else i if isinstance(i, hp.Index) else hp.Unique(i) for i in unique])  # fmt: skip
        with hp.open(":memory:", collections=[local]) as db:
            db[local].put({"id": "0", **first})
            if twin:
                with pytest.raises(hp.errors.UniqueViolation):
                    db[local].put({"id": "1", **doc})
            else:
                db[local].put({"id": "1", **doc})


async def test_two_nodes_at_once_give_a_value_to_one_document(dsn, make_node, sql):
    nodes = [await make_node(dsn, [NAMED]) for _ in range(2)]
    devices = [Device(nodes[n % 2], f"user{n}") for n in range(6)]
    for round_ in range(8):
        batches = [
            [
                put(f"{round_}-{n}-{m}", {"id": f"{round_}-{n}-{m}", "name": f"{round_}-{m}"})
                for m in (range(3) if n % 2 else reversed(range(3)))
            ]
            for n in range(len(devices))
        ]
        answers = await asyncio.gather(
            *(device.sync(*batch) for device, batch in zip(devices, batches, strict=True))
        )
        given = [result for verdicts in answers for result in results(verdicts)]
        assert sorted(given) == ["applied"] * 3 + [TWIN] * 15
    names = [doc["name"] for doc in (await rows(sql)).values()]
    assert len(names) == len(set(names)) == 24


async def test_what_is_not_declared_any_more_is_not_kept(dsn, make_node, sql):
    both = ServerCollection("wells", unique=["name", ("field", "number")])
    node = await make_node(dsn, [both])
    tables = "select count(*) from pg_tables where tablename like 'unique\\_%'"
    assert await sql.fetchval(tables) == 3
    await node.stop()
    node = await make_node(dsn, [NAMED])
    assert await sql.fetchval(tables) == 2
    device = Device(node)
    twin = {"name": "N", "field": 1, "number": 1}
    assert results(await device.sync(put("1", twin), put("2", twin))) == ["applied", TWIN]
    twin["name"] = "M"
    assert results(await device.sync(put("2", twin))) == ["applied"]
    await node.stop()
    node = await make_node(dsn, [ServerCollection("wells")])
    assert await sql.fetchval(tables) == 1
    functions = "select proname from pg_proc where pronamespace = 'homeport'::regnamespace"
    assert not [row for row in await sql.fetch(functions) if row["proname"].startswith("unique")]
    device = Device(node)
    assert results(await device.sync(put("3", twin))) == ["applied"]


async def test_duplicates_that_are_there_are_listed_at_the_declaration(dsn, make_node, sql):
    node = await make_node(dsn, [ServerCollection("wells")])
    await Device(node).sync(*[put(str(n), {"id": str(n), "name": n % 2 or "x"}) for n in range(4)])
    await node.stop()
    with pytest.raises(DuplicateValues) as caught:
        await make_node(dsn, [NAMED])
    assert caught.value.duplicates == [("x", ["0", "2"]), (1, ["1", "3"])]
    assert "'t1'" in str(caught.value) and "wells" in str(caught.value)
    await sql.execute("delete from homeport.documents where key in ('2', '3')")
    node = await make_node(dsn, [NAMED])
    verdict = results(await Device(node).sync(put("9", {"id": "9", "name": 1})))
    assert verdict == [TWIN]
    await sql.execute("truncate homeport.documents")
    assert results(await Device(node).sync(put("9", {"id": "9", "name": 1}))) == ["applied"]


async def test_a_value_that_no_device_could_read_has_no_twin(dsn, make_node, sql):
    node = await make_node(dsn, [ServerCollection("wells", unique=["n"])])
    for key, value in enumerate(('1e999', '"\\u0000"', "12345678901234567890", '"a"')):
        for twin in "ab" if value != '"a"' else "a":
            await sql.execute(
                "insert into homeport.documents (tenant, collection, key, body)"
                f" values ('t1', 'wells', '{key}{twin}', '{{\"n\": {value}}}')"
            )
    device = Device(node)
    reply = await node.sync(device.claims, device.request(put("z", {"id": "z", "n": "a"})))
    assert reply.batch is not None and results(reply.batch.verdicts) == [TWIN]


async def test_devices_that_were_offline_are_told_and_can_correct_it(dsn, make_node, tmp_path):
    """At the level of a user, against a development node, which takes the declaration over."""
    node = await make_node(dsn)
    token = node.auth.mint("ann", "t1", 600)
    wells = hp.Collection("wells", indexes=[hp.Unique("name")])
    async with (
        served(node) as url,
        hp.open_async(tmp_path / "a.db", collections=[wells]) as one,
        hp.open_async(tmp_path / "b.db", collections=[wells]) as two,
    ):
        first, second = one.sync(url, token=token), two.sync(url, token=token)
        await one[wells].put({"id": "w1", "name": "North"})

        async def unit(tx: Any) -> None:
            await tx[wells].put({"id": "w2", "name": "North"})
            await tx[wells].put({"id": "log", "made": "w2"})

        await two.run(unit)
        await first.now(timeout_s=30)
        await second.now(timeout_s=30)
        assert sorted([doc["id"] for doc in await two[wells].all()]) == ["w1"]
        (letter,) = await second.dead_letters()
        assert letter.code == "unique" and "wells (name)" in letter.message
        assert await second.integrity() == []
        await second.retry(letter.id, documents={"w2": {"id": "w2", "name": "North 2"}})
        await second.now(timeout_s=30)
        await first.now(timeout_s=30)
        assert await second.dead_letters() == []
        for db in (one, two):
            found = {doc["id"]: doc.get("name") for doc in await db[wells].all()}
            assert found == {"w1": "North", "w2": "North 2", "log": None}
        await first.stop()
        await second.stop()


async def test_a_development_node_says_what_it_cannot_keep(dsn, make_node, caplog):
    node = await make_node(dsn)
    device = Device(node)
    await device.sync(put("1", {"n": 1}), put("2", {"n": 1}))
    request = device.request(put("3", {"n": 1}))
    request.pull.unique = {"wells": [UniqueIndex(["n"])]}
    reply = await node.sync(device.claims, request)
    assert reply.batch is not None and results(reply.batch.verdicts) == ["applied"]
    assert "1, 2 have the same value" in caplog.text


@pytest.mark.parametrize("unique", ["name", [hp.Index("name")], [3]])
def test_a_wrong_declaration_is_refused(unique):
    with pytest.raises(SchemaError):
        ServerCollection("wells", unique=unique)


async def test_a_database_of_an_older_version_is_brought_up(dsn, make_node, sql):
    node = await make_node(dsn, [ServerCollection("wells")])
    await node.stop()
    await sql.execute(
        "drop table homeport.unique_indexes;"
        " drop function homeport.index_entries, homeport.index_part;"
        " update homeport.settings set value = '3' where name = 'schema_version'"
    )
    node = await make_node(dsn, [NAMED])
    verdicts = await Device(node).sync(put("1", {"name": 1}), put("2", {"name": 1}))
    assert results(verdicts) == ["applied", TWIN]
