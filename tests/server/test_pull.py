"""Cuts: paging, joined, left, regenerated, plain SQL, and nothing outside the scope."""

from __future__ import annotations

import random

import pytest

from homeport.errors import HistoryBroken
from homeport.server.rules import ServerCollection

from .helpers import Device, delete, patch, put, results


async def _truth(sql, tenant="t1", collection="wells"):
    rows = await sql.fetch(
        "select key, version::text, bucket, body from homeport.documents"
        " where tenant = $1 and collection = $2",
        tenant,
        collection,
    )
    return {row[0]: row[1] for row in rows}


async def test_nothing_new_gives_the_old_cursor_and_no_marker(dsn, make_node):
    node = await make_node(dsn)
    device = Device(node)
    await device.sync(put("a", {"id": "a"}))
    before, cursor = node.feed.markers_made, device.cursor
    await device.sync()
    assert (node.feed.markers_made, device.cursor) == (before, cursor)


@pytest.mark.parametrize("page_bytes", [4_000, 60_000])
async def test_r17_first_sync_in_pages_with_writes_between(dsn, make_node, sql, page_bytes):
    node = await make_node(dsn, page_bytes=page_bytes)
    await Device(node).sync()
    await sql.execute(
        "insert into homeport.documents (tenant, collection, key, body)"
        " select 't1', 'wells', 'k' || n, json_build_object('id', 'k' || n, 'n', n)"
        " from generate_series(1, 3000) n"
    )
    dice = random.Random(7)

    async def write() -> None:
        one = dice.randrange(1, 3100)
        await sql.execute(
            "insert into homeport.documents (tenant, collection, key, body)"
            " values ('t1', 'wells', $1, $2)"
            " on conflict (tenant, collection, key) do update set body = excluded.body",
            f"k{one}",
            '{"id": "x", "again": true}',
        )
        await sql.execute("delete from homeport.documents where key = $1", f"k{one // 2}")

    device = Device(node, "new")
    await device.sync(between=write)
    assert device.pages > 3
    truth = await _truth(sql)
    assert {key: device.token(key) for key in device.docs()} == truth
    # The cut after it is small: the cursor was not set back.
    pages = device.pages
    await device.sync()
    assert device.pages == pages + 1


async def test_a_writer_faster_than_the_pages_does_not_prolong_a_cut_for_ever(dsn, make_node, sql):
    node = await make_node(dsn, page_bytes=3_000)
    device = Device(node)
    await device.sync()
    insert = (
        "insert into homeport.documents (tenant, collection, key, body)"
        " select 't1', 'wells', 'k' || n, '{\"id\": \"x\"}' from generate_series(1, 400) n"
        " on conflict (tenant, collection, key) do update set body = excluded.body"
    )

    async def write() -> None:
        await sql.execute(insert)

    await write()
    await device.sync(between=write)
    assert device.pages < 60
    assert {key: device.token(key) for key in device.docs()} == await _truth(sql)


async def test_plain_sql_reaches_devices_and_changes_the_token(dsn, make_node, sql):
    node = await make_node(dsn)
    device = Device(node)
    await device.sync(put("a", {"id": "a", "n": 1}), put("b", {"id": "b"}))
    token = device.token("a")
    await sql.execute('update homeport.documents set body = \'{"id":"a","n":2}\' where key = \'a\'')
    await sql.execute("update homeport.documents set key = 'c' where key = 'b'")
    # A version written by hand does not stand.
    await sql.execute(
        "insert into homeport.documents (tenant, collection, key, version, body)"
        " values ('t1', 'wells', 'd', '5', '{}')"
    )
    await device.sync()
    assert device.docs() == {"a": {"id": "a", "n": 2}, "c": {"id": "b"}, "d": {}}
    assert device.token("a") != token and device.token("d") != "5"
    assert results(await device.sync(put("a", {"id": "a", "n": 3}, token))) == ["conflict:changed"]
    await sql.execute("delete from homeport.documents where key = 'a'")
    await device.sync()
    assert set(device.docs()) == {"c", "d"}


async def test_truncate_regenerates(dsn, make_node, sql):
    node = await make_node(dsn)
    device = Device(node)
    await device.sync(put("a", {"id": "a"}), put("b", {"id": "b"}))
    generation = device.holds["wells"].generation
    await sql.execute(
        "truncate homeport.documents;"
        "insert into homeport.documents (tenant, collection, key, body)"
        " values ('t1', 'wells', 'c', '{}')"
    )
    await device.sync()
    assert set(device.docs()) == {"c"}
    assert device.holds["wells"].generation == generation + 1


async def test_truncate_between_the_pages_of_a_cut(dsn, make_node, sql):
    node = await make_node(dsn, page_bytes=2_000)
    await Device(node).sync(*(put(f"k{n}", {"id": f"k{n}"}) for n in range(300)))
    device = Device(node, "new")
    done = False

    async def truncate() -> None:
        nonlocal done
        if not done:
            await sql.execute("truncate homeport.documents")
        done = True

    await device.sync(between=truncate)
    await device.sync()
    assert done and device.docs() == {}


def _regions() -> list[ServerCollection]:
    async def mine(claims, fetch):
        return [
            r[0]
            for r in await fetch("select bucket from public.members where who = $1", claims.subject)
        ]

    return [ServerCollection("wells", bucket=lambda doc: doc["region"], buckets=mine)]


async def _members(sql, **who: str) -> None:
    await sql.execute("create table if not exists members (who text, bucket text)")
    await sql.execute("delete from members")
    for name, buckets in who.items():
        for bucket in buckets.split():
            await sql.execute("insert into members values ($1, $2)", name, bucket)


async def test_r10_joined_and_left_buckets(dsn, make_node, sql):
    await _members(sql, ann="n s", bob="n")
    node = await make_node(dsn, _regions())
    ann, bob = Device(node, "ann"), Device(node, "bob")
    await ann.sync(
        put("n1", {"id": "n1", "region": "n"}),
        put("s1", {"id": "s1", "region": "s"}),
        put("s2", {"id": "s2", "region": "s"}),
    )
    await bob.sync()
    assert set(bob.docs()) == {"n1"}
    await _members(sql, ann="n s", bob="s")
    await bob.sync()
    assert set(bob.docs()) == {"s1", "s2"}
    # A document that walks out of his buckets is gone, one that walks in arrives.
    await ann.sync(
        patch("s1", ann.token("s1"), set={"region": "n"}),
        patch("n1", ann.token("n1"), set={"region": "s"}),
    )
    await bob.sync()
    assert set(bob.docs()) == {"n1", "s2"}
    await _members(sql, ann="n s")
    await bob.sync()
    assert bob.docs() == {} and bob.holds["wells"].buckets == []


async def test_writes_outside_the_scope_are_refused_and_tell_nothing(dsn, make_node, sql):
    await _members(sql, ann="n s", bob="n")
    node = await make_node(dsn, _regions())
    ann, bob = Device(node, "ann"), Device(node, "bob")
    await ann.sync(put("s1", {"id": "s1", "region": "s", "secret": 1}))
    verdicts = await bob.sync(
        put("x", {"id": "x", "region": "s"}),
        put("y", {"id": "y"}),
        patch("s1", "1", set={"secret": 2}),
    )
    assert results(verdicts) == ["rejected:forbidden", "rejected:forbidden", "conflict:gone"]
    assert results(await bob.sync(delete("s1", "1"))) == ["applied"]
    assert results(await bob.sync(put("s1", {"id": "s1", "region": "n"}))) == ["rejected:forbidden"]
    await ann.sync()
    assert ann.docs() == {"s1": {"id": "s1", "region": "s", "secret": 1}}
    assert not bob.received


async def test_conflict_records_lie_in_the_bucket_of_their_document(dsn, make_node, sql):
    await _members(sql, ann="n s", bob="n")
    node = await make_node(dsn, _regions())
    ann, bob = Device(node, "ann"), Device(node, "bob")
    await ann.sync(put("s1", {"id": "s1", "region": "s"}), put("n1", {"id": "n1", "region": "n"}))
    old = [ann.token("s1"), ann.token("n1")]
    await ann.sync(patch("s1", old[0], set={"x": 1}), patch("n1", old[1], set={"x": 1}))
    await ann.sync(delete("s1", old[0]), delete("n1", old[1]))
    await ann.sync()
    await bob.sync()
    assert {r["key"] for r in ann.docs("_resolutions").values()} == {"s1", "n1"}
    assert {r["key"] for r in bob.docs("_resolutions").values()} == {"n1"}


async def test_schedule_6_a_row_walks_through_buckets_and_tenants_and_nothing_leaks(
    dsn, make_node, sql
):
    """Every byte that Bob receives was visible to him when the page was read."""
    await _members(sql, ann="b1 b2", bob="b1")
    node = await make_node(dsn, _regions(), page_bytes=1_500)
    bob = Device(node, "bob")
    await bob.sync()
    dice = random.Random(6)
    visible: set[str] = set()
    serial = 0

    async def step() -> None:
        """One foreign write; every body names a serial number and its bucket."""
        nonlocal serial
        serial += 1
        key, bucket = f"k{dice.randrange(12)}", dice.choice(["b1", "b2"])
        tenant = dice.choice(["t1", "t1", "t2"])
        action = dice.randrange(6)
        text = f'{{"id": "{key}", "region": "{bucket}", "serial": {serial}, "pad": "{"x" * 100}"}}'
        if action == 0:
            await sql.execute("delete from homeport.documents where key = $1", key)
        elif action == 1:
            is_member = await sql.fetchval("select count(*) from members where who = 'bob'")
            await _members(sql, ann="b1 b2", **({} if is_member else {"bob": "b1"}))
        elif action == 2:
            await sql.execute(
                "delete from homeport.documents where key = $1 and tenant <> $2", key, tenant
            )
            await sql.execute(
                "update homeport.documents set tenant = $2 where key = $1", key, tenant
            )
        else:
            await sql.execute(
                "insert into homeport.documents (tenant, collection, key, bucket, body)"
                " values ($1, 'wells', $2, $3, $4)"
                " on conflict (tenant, collection, key)"
                " do update set bucket = excluded.bucket, body = excluded.body",
                tenant,
                key,
                bucket,
                text,
            )

    async def allowed() -> set[tuple[str, str]]:
        rows = await sql.fetch(
            "select d.key, d.version::text from homeport.documents d"
            " join members m on m.who = 'bob' and m.bucket = d.bucket where d.tenant = 't1'"
        )
        return {(row[0], row[1]) for row in rows}

    for _ in range(250):
        for _ in range(dice.randrange(1, 5)):
            await step()
        staged = []
        position = None
        while True:
            now = await allowed()
            reply = await node.sync(bob.claims, bob.request(position=position))
            for row in reply.rows:
                if row.token is not None:
                    assert (row.key, row.token) in now
            staged.append(reply)
            position = reply.more
            if position is None:
                break
            await step()
        bob.apply(staged)
        mine = {(key, bob.token(key)) for key in bob.docs()}
        assert mine == await allowed()
        visible |= {key for key, _ in mine}
    assert len(visible) > 6


async def test_cursors_and_positions_of_others_or_of_nobody_are_refused(dsn, make_node):
    node = await make_node(dsn, page_bytes=500)
    ann = Device(node, "ann")
    await ann.sync(*(put(f"k{n}", {"id": f"k{n}"}) for n in range(200)))
    fresh = Device(node, "ann")
    reply = await node.sync(fresh.claims, fresh.request())
    assert reply.more
    bob = Device(node, "bob")
    with pytest.raises(HistoryBroken):
        await node.sync(bob.claims, bob.request(position=reply.more))
    for text in (ann.cursor, "garbage", "WyIxOjE6IiwibiIsIm8iXQ==", "é"):
        bob.cursor = text
        with pytest.raises(HistoryBroken):
            await node.sync(bob.claims, bob.request())
