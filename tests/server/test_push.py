"""What becomes of pushed changes, on real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from homeport.core.wire import MAX_DOCUMENT_BYTES
from homeport.errors import IdentityBroken, UsageError
from homeport.server.rules import ServerCollection

from .helpers import Device, delete, patch, put, results


async def test_create_replace_patch_delete(dsn, make_node):
    node = await make_node(dsn)
    device = Device(node)
    assert results(await device.sync(put("a", {"id": "a", "n": 1}))) == ["applied"]
    assert device.docs() == {"a": {"id": "a", "n": 1}}
    # Equal content again: applied, and nothing is written.
    token = device.token("a")
    assert results(await device.sync(put("a", {"n": 1.0, "id": "a"}))) == ["applied"]
    assert device.token("a") == token
    assert results(await device.sync(put("a", {"id": "a", "n": 2}))) == ["conflict:exists"]
    assert results(await device.sync(put("a", {"id": "a", "n": 2}, token))) == ["applied"]
    assert results(await device.sync(put("a", {"id": "a", "n": 3}, token))) == ["conflict:changed"]
    change = patch("a", device.token("a"), set={"x.y": 5}, unset=["n"])
    assert results(await device.sync(change)) == ["applied"]
    assert device.docs() == {"a": {"id": "a", "x": {"y": 5}}}
    assert results(await device.sync(delete("a", device.token("a")))) == ["applied"]
    assert device.docs() == {}
    assert results(await device.sync(delete("a", token))) == ["applied"]
    assert results(await device.sync(patch("a", token, set={"n": 1}))) == ["conflict:gone"]
    assert results(await device.sync(put("a", {"id": "a"}, token))) == ["conflict:gone"]


async def test_text_is_kept_byte_for_byte(dsn, make_node, sql):
    node = await make_node(dsn)
    device = Device(node)
    await device.sync()
    await sql.execute(
        "insert into homeport.documents (tenant, collection, key, body)"
        """ values ('t1', 'wells', 'a', '{"z": 1.50, "big": 12345678901234567890123, "a":1e2 }')"""
    )
    await device.sync()
    change = patch("a", device.token("a"), set={"new": True})
    assert results(await device.sync(change)) == ["applied"]
    body = await sql.fetchval("select body::text from homeport.documents")
    assert body == '{"z":1.50,"big":12345678901234567890123,"a":1e2,"new":true}'


async def test_merge_passes_disjoint_and_equal_fields(dsn, make_node):
    node = await make_node(dsn)
    a, b = Device(node, "ann"), Device(node, "bob")
    await a.sync(put("w", {"id": "w", "x": 1, "y": 1, "deep": {"p": 1, "q": 1}}))
    await b.sync()
    old = b.token("w")
    await a.sync(patch("w", a.token("w"), set={"x": 2, "deep.p": 2}, old={"x": 1, "deep.p": 1}))
    one = patch("w", old, set={"y": 9, "deep.q": 9}, old={"y": 1, "deep.q": 1})
    assert results(await b.sync(one)) == ["applied"]
    assert b.docs()["w"] == {"id": "w", "x": 2, "y": 9, "deep": {"p": 2, "q": 9}}
    same = patch("w", old, set={"x": 2}, old={"x": 1})
    assert results(await b.sync(same)) == ["applied"]
    clash = await b.sync(patch("w", old, set={"z": 1, "x": 3}, old={"x": 1}))
    assert results(clash) == ["conflict:changed"]
    assert clash[0].at == [0]
    # A path through what is no object any more clashes, it is not rebuilt.
    await a.sync()
    await a.sync(patch("w", a.token("w"), set={"deep": 5}))
    clash = await b.sync(patch("w", old, set={"deep.r": 1}))
    assert results(clash) == ["conflict:changed"]


@pytest.mark.parametrize("policy", ["local-wins", "remote-wins", "manual", "mine"])
async def test_other_policies_conflict_on_any_difference(dsn, make_node, policy):
    node = await make_node(dsn, [ServerCollection("wells", policy=policy)])
    device = Device(node)
    await device.sync(put("w", {"id": "w", "x": 1, "y": 1}))
    old = device.token("w")
    await device.sync(patch("w", old, set={"x": 2}, old={"x": 1}))
    verdicts = await device.sync(patch("w", old, set={"y": 2}, old={"y": 1}))
    assert results(verdicts) == ["conflict:changed"]


async def test_r23_last_write_wins_keeps_what_it_overwrote(dsn, make_node):
    node = await make_node(dsn, [ServerCollection("wells", policy="last-write-wins")])
    a, b = Device(node, "ann"), Device(node, "bob")
    await a.sync(put("w", {"id": "w", "x": 1}))
    await b.sync()
    old = b.token("w")
    await a.sync(put("w", {"id": "w", "x": 2}, a.token("w")))
    assert results(await b.sync(put("w", {"id": "w", "x": 3}, old))) == ["applied"]
    await a.sync()
    assert a.docs() == b.docs() == {"w": {"id": "w", "x": 3}}
    (record,) = a.docs("_resolutions").values()
    assert record["local"] == record["result"] == {"id": "w", "x": 3}
    assert record["remote"] == {"id": "w", "x": 2}
    assert (record["kind"], record["collection"], record["key"]) == (
        "last-write-wins",
        "wells",
        "w",
    )
    assert record["client"] == b.client and record["at_ms"] > 0
    assert results(await b.sync(delete("w", old))) == ["applied"]
    assert results(await b.sync(patch("w", old, set={"x": 1}))) == ["conflict:gone"]
    assert results(await b.sync(put("w", {"id": "w", "x": 4}, old))) == ["applied"]
    assert len(b.docs("_resolutions")) == 2


async def test_r23_delete_wins_tells_the_loser_and_edit_wins_conflicts(dsn, make_node):
    node = await make_node(
        dsn, [ServerCollection("wells"), ServerCollection("logs", deletes="edit-wins")]
    )
    names = {"wells": "merge", "logs": "merge", "_resolutions": "last-write-wins"}
    a, b = Device(node, "ann", collections=names), Device(node, "bob", collections=names)
    await a.sync(put("w", {"id": "w", "x": 1}), put("l", {"id": "l"}, collection="logs"))
    await b.sync()
    old, old_log = b.token("w"), b.token("l", "logs")
    await a.sync(patch("w", old, set={"x": 2}), patch("l", old_log, "logs", set={"x": 2}))
    verdicts = await b.sync(delete("w", old), delete("l", old_log, "logs"))
    assert results(verdicts) == ["applied", "conflict:changed"]
    await a.sync()
    assert a.docs() == {} and a.docs("logs") == {"l": {"id": "l", "x": 2}}
    (record,) = a.docs("_resolutions").values()
    assert record["kind"] == "delete-wins" and record["remote"] == {"id": "w", "x": 2}
    assert record["local"] is None and record["result"] is None and record["base"] is None


async def test_r24_a_unit_is_applied_whole_or_not_at_all(dsn, make_node):
    node = await make_node(dsn)
    device = Device(node)
    await device.sync(put("a", {"id": "a", "n": 1}))
    verdicts = await device.sync(
        [put("b", {"id": "b"}), put("a", {"id": "a", "n": 2})],
        put("c", {"id": "c"}),
        [put("d", {"id": "d"}), put("c", {"id": "c", "again": 1})],
        [put("e", {"id": "e"}), put("e", {"id": "e"})],
    )
    assert results(verdicts) == [
        "conflict:exists",
        "applied",
        "retry:same-document",
        "rejected:bad-unit",
    ]
    assert verdicts[0].at == [1]
    assert set(device.docs()) == {"a", "c"}


async def test_r03_what_postgresql_cannot_hold_costs_its_unit(dsn, make_node):
    node = await make_node(dsn)
    device = Device(node)
    big = "x" * MAX_DOCUMENT_BYTES
    verdicts = await device.sync(
        put("ok", {"id": "ok", "t": "\\u0000 is text here"}),
        put("nul", {"id": "nul", "t": "a\0b"}),
        put("big", {"id": "big", "t": big}),
        put("k" * 1001, {"id": "k"}),
        put("k\0", {"id": "k"}),
        put("list", [1]),
        put("none", None),
        put("last", {"id": "last"}),
    )
    assert results(verdicts) == [
        "applied",
        "rejected:invalid-text",
        "rejected:too-large",
        "rejected:invalid-key",
        "rejected:invalid-key",
        "rejected:invalid-json",
        "rejected:bad-request",
        "applied",
    ]
    assert device.docs() == {
        "ok": {"id": "ok", "t": "\\u0000 is text here"},
        "last": {"id": "last"},
    }


async def test_r03_a_poison_batch_costs_itself_only(dsn, make_node, sql):
    node = await make_node(dsn)
    device = Device(node)
    await device.sync(put("first", {"id": "first", "mail": "taken@x"}))
    await sql.execute(
        """
        create unique index one_mail on homeport.documents ((body->>'mail'));
        create function no_bad() returns trigger language plpgsql as $$ begin
            if new.body->>'bad' is not null then raise exception 'secret of %', new.key; end if;
            return new; end $$;
        create trigger no_bad before insert or update on homeport.documents
            for each row execute function no_bad();
        create table parents (name text primary key);
        create table children (
            key text primary key,
            parent text references parents deferrable initially deferred);
        create function child() returns trigger language plpgsql as $$ begin
            if new.body->>'parent' is not null then
                insert into public.children values (new.key, new.body->>'parent'); end if;
            return null; end $$;
        create trigger child after insert on homeport.documents
            for each row execute function child();
        """
    )
    units = [put(f"k{n}", {"id": f"k{n}", "n": n}) for n in range(100)]
    units[20] = put("mail", {"id": "mail", "mail": "taken@x"})
    units[40] = put("raise", {"id": "raise", "bad": 1})
    units[60] = put("child", {"id": "child", "parent": "nobody"})
    units[80] = [put("m1", {"id": "m1"}), put("m2", {"id": "m2", "bad": 1})]
    verdicts = await device.sync(*units)
    bad = {n: v for n, v in enumerate(verdicts) if v.result != "applied"}
    assert {n: v.code for n, v in bad.items()} == {
        20: "unique",
        40: "refused",
        60: "foreign-key",
        80: "refused",
    }
    assert "one_mail" in bad[20].message
    for verdict in bad.values():
        assert "taken@x" not in verdict.message and "secret" not in verdict.message
    assert set(device.docs()) == {"first"} | {f"k{n}" for n in range(100) if n % 20 or not n}
    # The queue goes on, and the fast path is taken again.
    assert results(await device.sync(put("next", {"id": "next"}))) == ["applied"]


async def test_a_broken_trigger_makes_units_wait_not_die(dsn, make_node, sql):
    node = await make_node(dsn)
    device = Device(node)
    await sql.execute(
        """
        create function broken() returns trigger language plpgsql as $$ begin
            perform 1 from no_such_table; return new; end $$;
        create trigger broken before insert on homeport.documents
            for each row when (new.key = 'x') execute function broken();
        """
    )
    verdicts = await device.sync(put("x", {"id": "x"}), put("y", {"id": "y"}))
    assert results(verdicts) == ["retry:server-error", "applied"]


async def test_r04_replay_gives_the_stored_answer_and_two_copies_at_once_apply_once(
    dsn, make_node, sql
):
    node = await make_node(dsn)
    device = Device(node)
    await device.sync()
    await sql.execute("create table hits (n int); insert into hits values (0)")
    await sql.execute(
        """
        create function hit() returns trigger language plpgsql as $$ begin
            update public.hits set n = n + 1; return null; end $$;
        create trigger hit after insert or update on homeport.documents
            for each row execute function hit();
        """
    )
    for round_ in range(1, 11):
        token = device.token("k") if round_ > 1 else None
        request = device.request(put("k", {"id": "k", "n": round_}, token))
        copies = [node.sync(device.claims, request) for _ in range(4)]
        replies = await asyncio.gather(*copies)
        assert {tuple(results(reply.batch.verdicts)) for reply in replies} == {("applied",)}
        device.apply([await node.sync(device.claims, request)])
    assert await sql.fetchval("select n from hits") == 10
    other = device.request(put("k", {"id": "k", "other": 1}))
    device.number -= 1
    with pytest.raises(IdentityBroken):
        request.hash, request.batch = other.hash, other.batch
        await node.sync(device.claims, _with_number(device, 10))
    with pytest.raises(IdentityBroken):
        await node.sync(device.claims, _with_number(device, 12))
    # Another subject of the same client name has numbers of his own.
    stranger = Device(node, "eve")
    stranger.client = device.client
    assert results(await stranger.sync(put("s", {"id": "s"}))) == ["applied"]


def _with_number(device: Device, number: int):
    device.number = number - 1
    return device.request(put("k", {"id": "k", "number": number}))


async def test_a_wrong_hash_or_shape_is_refused(dsn, make_node):
    node = await make_node(dsn)
    device = Device(node)
    request = device.request(put("k", {"id": "k"}))
    request.hash = "0" * 64
    with pytest.raises(UsageError):
        await node.sync(device.claims, request)


async def test_unknown_collections_wait(dsn, make_node):
    node = await make_node(dsn, [ServerCollection("wells")])
    device = Device(node, collections={"wells": "merge", "curves": "merge"})
    verdicts = await device.sync(put("c", {"id": "c"}, collection="curves"), put("w", {"id": "w"}))
    assert results(verdicts) == ["retry:unknown-collection", "applied"]
    reply = await node.sync(device.claims, device.request())
    assert reply.unknown == ["curves"]


async def test_development_mode_takes_the_first_policy_that_it_sees(dsn, make_node):
    node = await make_node(dsn)
    first = Device(node, collections={"wells": "manual"})
    await first.sync()
    second = Device(node, collections={"wells": "merge", "9bad name": "merge"})
    reply = await node.sync(second.claims, second.request())
    assert reply.collections["wells"].policy == "manual"
    assert reply.unknown == ["9bad name"]


async def test_write_rules_see_claims_old_and_new(dsn, make_node):
    def rule(claims, old, new):
        if claims.token.get("role") == "boss":
            return True
        if new is None:
            return "only the boss deletes"
        if new.get("explode"):
            raise KeyError("bug")
        return old is None or old["owner"] == claims.subject

    node = await make_node(dsn, [ServerCollection("wells", write=rule)])
    ann, bob, boss = Device(node, "ann"), Device(node, "bob"), Device(node, "bo", role="boss")
    assert results(await ann.sync(put("w", {"id": "w", "owner": "ann"}))) == ["applied"]
    await bob.sync()
    verdicts = await bob.sync(
        patch("w", bob.token("w"), set={"owner": "bob"}), put("x", {"id": "x", "explode": 1})
    )
    assert results(verdicts) == ["rejected:forbidden", "retry:rule-failed"]
    verdicts = await ann.sync(delete("w", ann.token("w")))
    assert results(verdicts) == ["rejected:forbidden"]
    assert verdicts[0].message == "only the boss deletes"
    await boss.sync()
    assert results(await boss.sync(delete("w", boss.token("w")))) == ["applied"]


async def test_concurrent_batches_on_hot_rows_neither_deadlock_nor_lose(dsn, make_node, sql):
    # Under `manual` a patch passes by its token only, so every applied one counts.
    node = await make_node(dsn, [ServerCollection("wells", policy="manual")], pool_size=8)
    hot = [f"h{n}" for n in range(20)]
    seed = Device(node)
    await seed.sync(*(put(key, {"id": key, "n": 0}) for key in hot))
    counted = 0

    async def worker(number: int) -> None:
        nonlocal counted
        device = Device(node, f"user{number}")
        dice = random.Random(number)
        await device.sync()
        for round_ in range(12):
            keys = dice.sample(hot, 8)
            units = []
            for key in keys:
                now = device.docs()[key]["n"]
                units.append(patch(key, device.token(key), set={"n": now + 1}, old={"n": now}))
            units += [put(f"new{round_}-{n}", {"id": "x"}) for n in dice.sample(range(10), 6)]
            dice.shuffle(units)
            request = device.request(*units)
            copies = [node.sync(device.claims, request) for _ in range(1 + round_ % 2)]
            reply = (await asyncio.gather(*copies))[0]
            counted += sum(
                verdict.result == "applied"
                for verdict, unit in zip(reply.batch.verdicts, units, strict=True)
                if unit["op"] == "patch"
            )
            device.apply([reply])

    await asyncio.gather(*(worker(number) for number in range(6)))
    total = await sql.fetchval(
        "select sum((body->>'n')::int) from homeport.documents where key like 'h%'"
    )
    assert total == counted > 0


async def test_a_batch_looks_at_its_own_rows_only(dsn, make_node, sql):
    """Also on a table that nobody has analysed, where the planner guesses that a tenant is small."""
    from homeport.server import push, visible

    await make_node(dsn)
    await sql.execute("alter table homeport.documents set (autovacuum_enabled = off)")
    await sql.execute(
        "insert into homeport.documents (tenant, collection, key, body)"
        " select 't1', 'wells', 'w' || n, '{}' from generate_series(1, 5000) n"
    )
    keys = [f"w{n}" for n in range(1, 101)]
    names = ["wells"] * len(keys)
    statements = {
        "lock": (push._LOCK_ROWS, "t1", names, keys),
        "read": (visible._BY_KEY, "t1", names, keys, ["wells"], [""]),
    }
    for name, (text, *values) in statements.items():
        transaction = sql.transaction()
        await transaction.start()
        plan = json.loads(await sql.fetchval(f"explain (analyze, timing off, format json) {text}", *values))
        await transaction.rollback()
        scans = list(scanned(plan[0]["Plan"]))
        assert 100 <= sum(scans) <= 300, (name, scans)


def scanned(plan):
    """Rows that each scan of documents, or of its indexes, went through."""
    if "documents" in plan.get("Relation Name", "") + plan.get("Index Name", ""):
        if "Scan" in plan["Node Type"]:
            yield (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    for each in plan.get("Plans", ()):
        yield from scanned(each)
