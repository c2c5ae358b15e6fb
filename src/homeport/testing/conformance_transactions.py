"""Conformance: transactions, savepoints, the change log, named values, declarations in use."""

from __future__ import annotations

from homeport.core.fields import F
from homeport.core.query import EMPTY
from homeport.core.requests import DeleteWhere, Get, Meta, Put, SetMeta, TxInfo, Write
from homeport.core.schema import Collection, FullText, Multi
from homeport.errors import HomeportError, UnknownCollection
from homeport.testing.conformance import START_MS, World, part, raises, same


async def check_a_transaction_is_whole_or_nothing(world: World) -> None:
    docs, other = await world.define(
        Collection("docs", indexes=[Multi("tags"), FullText("text")]), Collection("other")
    )
    await world.put(docs, {"id": 1, "tags": ["old"], "text": "old"})
    await world.begin("write")
    same(world.in_transaction, True)
    await world.put(docs, {"id": 1, "tags": ["new"], "text": "new"}, {"id": 2})
    await world.put(other, {"id": "x"})
    await world.write(SetMeta("name", '"value"'))
    same(
        (await world.get(docs, 2), await world.meta("name")),
        ({"id": 2}, '"value"'),
        "its own writes",
    )
    await world.rollback()
    same(world.in_transaction, False)
    same(
        (await world.keys(docs), await world.keys(other), await world.meta("name")), ([1], [], None)
    )
    same(await world.keys(docs, EMPTY.and_where(F.tags.contains("old"))), [1])
    same(await world.keys(docs, EMPTY.and_where(F.text.matches("old"))), [1])
    same(await world.keys(docs, EMPTY.and_where(F.text.matches("new"))), [])
    await world.begin("write")
    await world.put(docs, {"id": 2})
    await world.commit()
    same(sorted(await world.keys(docs)), [1, 2])
    await world.rollback()  # silent: nothing is open


async def check_savepoints(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=[Multi("tags")]))
    head = await world.head()
    await world.begin("write")
    await world.put(docs, {"id": 1})
    outer = await world.savepoint()
    await world.put(docs, {"id": 2, "tags": ["t"]})
    inner = await world.savepoint()
    await world.delete(docs, 1)
    await world.rollback_to(inner)
    same(sorted(await world.keys(docs)), [1, 2])
    inner = await world.savepoint()
    await world.put(docs, {"id": 3})
    await world.release(inner)
    await world.rollback_to(outer)
    same(await world.keys(docs), [1])
    outer = await world.savepoint()
    await world.put(docs, {"id": 4})
    await world.release(outer)
    await world.commit()
    same(sorted(await world.keys(docs)), [1, 4])
    same(await world.keys(docs, EMPTY.and_where(F.tags.contains("t"))), [])
    changes = await world.changes(head, docs)
    same(changes.head, head + 1, "one change row for one transaction")
    assert changes.keys is not None
    same(sorted(changes.keys["docs"]), [1, 4], "only what was committed")


async def check_a_failing_request_writes_nothing(world: World) -> None:
    docs, other = await world.define(Collection("docs"), Collection("other"))
    (stranger,) = [type(docs)(Collection("stranger"))]
    head = await world.head()
    bad = Write([part(docs, {"id": 1}), part(other, {"id": 1}), Put(stranger, [("x", "{}")])])
    await raises(HomeportError, world.answer(bad))
    same((await world.keys(docs), await world.keys(other), await world.head()), ([], [], head))
    same(world.in_transaction, False)
    await raises(UnknownCollection, world.answer(Get(stranger, "x")))


async def check_the_change_log(world: World) -> None:
    docs, other, silent = await world.define(
        Collection("docs"), Collection("other"), Collection("silent", track_changes=False)
    )
    start = await world.head()
    same((await world.changes(None, docs)).head, start)
    await world.put(silent, {"id": 1})
    same(await world.head(), start, "an untracked collection writes no row")
    await world.put(docs, {"id": "a"}, {"id": "b"})
    await world.write(part(docs, {"id": "a"}), part(other, {"id": 5}), part(silent, {"id": 2}))
    await world.delete(docs, "b", "nobody")
    await world.answer(DeleteWhere(other, EMPTY))
    found = await world.changes(start, docs)
    same(found.head, start + 4)
    assert found.keys is not None
    same({name: sorted(keys) for name, keys in found.keys.items() if keys}, {"docs": ["a", "b"]})
    both = await world.changes(start + 2, docs, other)
    assert both.keys is not None
    same({name: keys for name, keys in both.keys.items() if keys}, {"docs": ["b"], "other": [5]})
    none = await world.changes(found.head, docs, other)
    same(
        (none.head, any((none.keys or {}).values()), none.keys is None), (found.head, False, False)
    )
    await world.delete(docs, "nobody")
    await world.write(SetMeta("name", "1"))
    same(await world.head(), found.head, "a write that changes no document writes no row")


async def check_a_large_transaction_is_logged_as_anything(world: World) -> None:
    (docs,) = await world.define(Collection("docs"))
    start = await world.head()
    await world.put(docs, *({"id": n} for n in range(5_001)))
    found = await world.changes(start, docs)
    same((found.head, found.keys), (start + 1, None))
    await world.put(docs, {"id": "x"})
    same((await world.changes(start + 1, docs)).keys, {"docs": ["x"]})


async def check_a_number_from_another_file_is_a_reset(world: World) -> None:
    (docs,) = await world.define(Collection("docs"))
    await world.put(docs, {"id": 1})
    same((await world.changes(await world.head() + 1, docs)).keys, None)


async def check_the_log_is_pruned(world: World) -> None:
    (docs,) = await world.define(Collection("docs"))
    await world.put(docs, {"id": 1})
    start = await world.head()
    for _ in range(world.log_kept + 600):
        await world.answer(Write([part(docs, {"id": 1})]))
    same((await world.changes(start, docs)).keys, None, "behind the horizon")
    same(
        (await world.changes(await world.head() - world.log_kept * 9 // 10, docs)).keys,
        {"docs": [1]},
    )


async def check_named_values(world: World) -> None:
    (docs,) = await world.define(Collection("docs"))
    same(await world.meta("a"), None)
    await world.write(SetMeta("a", '{"x":1}'), part(docs, {"id": 1}))
    same(await world.meta("a"), '{"x":1}')
    await world.write(SetMeta("a", "2"), SetMeta("b", "3"))
    same((await world.meta("a"), await world.meta("b")), ("2", "3"))
    await world.write(SetMeta("a", None), SetMeta("nobody", None))
    same((await world.meta("a"), await world.meta("b")), (None, "3"))


async def check_the_stamp_never_goes_back(world: World) -> None:
    (docs,) = await world.define(Collection("docs"))
    await world.put(docs, {"id": 1})
    world.now_ms -= 60_000
    await world.begin("write", "unit-1")
    info = await world.answer(Meta("tx"))
    assert isinstance(info, TxInfo)
    same((info.stamp_ms, info.unit), (START_MS, "unit-1"))
    await world.put(docs, {"id": 2})
    await world.commit()
    row = await world.info(docs, 2)
    assert row is not None
    same(row.modified_ms, START_MS)


async def check_enabling_replication_is_seen_by_the_tables(world: World) -> None:
    docs, other = await world.define(Collection("docs"), Collection("other"))
    same((docs.synced, other.synced), (False, False))
    epoch = int(await world.meta("epoch"))
    await world.write(SetMeta("sync.collections", '["docs"]'), SetMeta("epoch", str(epoch + 1)))
    same((docs.synced, other.synced), (True, False))
    await world.put(docs, {"id": 1})
    same(docs.synced, True)


async def check_a_plan_explains_itself(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=["v"]))
    await world.put(docs, {"id": 1, "v": 1, "w": 1}, {"id": 2, "v": 2, "w": 2})
    for query in (
        EMPTY,
        EMPTY.and_where(F.v > 1),
        EMPTY.and_where(F.w > 1).with_order("-w").with_limit(1),
        EMPTY.and_where(F.id == 1),
    ):
        explanation = await world.explain(docs, query)
        same("docs" in str(explanation), True, "the collection in the text")
    same("indexes=" in str(await world.explain(docs, EMPTY.and_where(F.w > 1))), True, "advice")


async def check_sizes(world: World) -> None:
    (docs,) = await world.define(Collection("docs"))
    await world.put(docs, *({"id": n, "text": "x" * 1_000} for n in range(100)))
    sizes = await world.size()
    same(sizes["total"] >= sizes["docs"] >= 100_000, True, f"sizes {sizes}")
