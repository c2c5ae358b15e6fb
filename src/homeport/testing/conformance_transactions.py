"""Conformance: transactions, savepoints, the change log, named values, declarations in use."""

from __future__ import annotations

from homeport.core.fields import F
from homeport.core.query import EMPTY
from homeport.core.requests import DeleteWhere, Get, Meta, Put, SetMeta, TxInfo, Write
from homeport.core.schema import Collection, FullText, Multi
from homeport.errors import HomeportError, UnknownCollection
from homeport.testing.conformance import START_MS, World, part, raises, same


def check_a_transaction_is_whole_or_nothing(world: World) -> None:
    docs, other = world.define(
        Collection("docs", indexes=[Multi("tags"), FullText("text")]), Collection("other")
    )
    world.put(docs, {"id": 1, "tags": ["old"], "text": "old"})
    session = world.session
    session.begin("write")
    same(session.in_transaction, True)
    world.put(docs, {"id": 1, "tags": ["new"], "text": "new"}, {"id": 2})
    world.put(other, {"id": "x"})
    world.write(SetMeta("name", '"value"'))
    same((world.get(docs, 2), world.meta("name")), ({"id": 2}, '"value"'), "its own writes")
    session.rollback()
    same(session.in_transaction, False)
    same((world.keys(docs), world.keys(other), world.meta("name")), ([1], [], None))
    same(world.keys(docs, EMPTY.and_where(F.tags.contains("old"))), [1])
    same(world.keys(docs, EMPTY.and_where(F.text.matches("old"))), [1])
    same(world.keys(docs, EMPTY.and_where(F.text.matches("new"))), [])
    session.begin("write")
    world.put(docs, {"id": 2})
    session.commit()
    same(sorted(world.keys(docs)), [1, 2])
    session.rollback()  # silent: nothing is open


def check_savepoints(world: World) -> None:
    (docs,) = world.define(Collection("docs", indexes=[Multi("tags")]))
    head = world.head()
    session = world.session
    session.begin("write")
    world.put(docs, {"id": 1})
    outer = session.savepoint()
    world.put(docs, {"id": 2, "tags": ["t"]})
    inner = session.savepoint()
    world.delete(docs, 1)
    session.rollback_to(inner)
    same(sorted(world.keys(docs)), [1, 2])
    inner = session.savepoint()
    world.put(docs, {"id": 3})
    session.release(inner)
    session.rollback_to(outer)
    same(world.keys(docs), [1])
    outer = session.savepoint()
    world.put(docs, {"id": 4})
    session.release(outer)
    session.commit()
    same(sorted(world.keys(docs)), [1, 4])
    same(world.keys(docs, EMPTY.and_where(F.tags.contains("t"))), [])
    changes = world.changes(head, docs)
    same(changes.head, head + 1, "one change row for one transaction")
    assert changes.keys is not None
    same(sorted(changes.keys["docs"]), [1, 4], "only what was committed")


def check_a_failing_request_writes_nothing(world: World) -> None:
    docs, other = world.define(Collection("docs"), Collection("other"))
    (stranger,) = [type(docs)(Collection("stranger"))]
    head = world.head()
    bad = Write([part(docs, {"id": 1}), part(other, {"id": 1}), Put(stranger, [("x", "{}")])])
    raises(HomeportError, lambda: world.session.answer(bad))
    same((world.keys(docs), world.keys(other), world.head()), ([], [], head))
    same(world.session.in_transaction, False)
    raises(UnknownCollection, lambda: world.session.answer(Get(stranger, "x")))


def check_the_change_log(world: World) -> None:
    docs, other, silent = world.define(
        Collection("docs"), Collection("other"), Collection("silent", track_changes=False)
    )
    start = world.head()
    same(world.changes(None, docs).head, start)
    world.put(silent, {"id": 1})
    same(world.head(), start, "an untracked collection writes no row")
    world.put(docs, {"id": "a"}, {"id": "b"})
    world.write(part(docs, {"id": "a"}), part(other, {"id": 5}), part(silent, {"id": 2}))
    world.delete(docs, "b", "nobody")
    world.session.answer(DeleteWhere(other, EMPTY))
    found = world.changes(start, docs)
    same(found.head, start + 4)
    assert found.keys is not None
    same({name: sorted(keys) for name, keys in found.keys.items() if keys}, {"docs": ["a", "b"]})
    both = world.changes(start + 2, docs, other)
    assert both.keys is not None
    same({name: keys for name, keys in both.keys.items() if keys}, {"docs": ["b"], "other": [5]})
    none = world.changes(found.head, docs, other)
    same(
        (none.head, any((none.keys or {}).values()), none.keys is None), (found.head, False, False)
    )
    world.delete(docs, "nobody")
    world.write(SetMeta("name", "1"))
    same(world.head(), found.head, "a write that changes no document writes no row")


def check_a_large_transaction_is_logged_as_anything(world: World) -> None:
    (docs,) = world.define(Collection("docs"))
    start = world.head()
    world.put(docs, *({"id": n} for n in range(5_001)))
    found = world.changes(start, docs)
    same((found.head, found.keys), (start + 1, None))
    world.put(docs, {"id": "x"})
    same(world.changes(start + 1, docs).keys, {"docs": ["x"]})


def check_a_number_from_another_file_is_a_reset(world: World) -> None:
    (docs,) = world.define(Collection("docs"))
    world.put(docs, {"id": 1})
    same(world.changes(world.head() + 1, docs).keys, None)


def check_the_log_is_pruned(world: World) -> None:
    (docs,) = world.define(Collection("docs"))
    world.put(docs, {"id": 1})
    start = world.head()
    session = world.session
    for _ in range(10_600):
        session.answer(Write([part(docs, {"id": 1})]))
    same(world.changes(start, docs).keys, None, "behind the horizon")
    same(world.changes(world.head() - 9_000, docs).keys, {"docs": [1]})


def check_named_values(world: World) -> None:
    (docs,) = world.define(Collection("docs"))
    same(world.meta("a"), None)
    world.write(SetMeta("a", '{"x":1}'), part(docs, {"id": 1}))
    same(world.meta("a"), '{"x":1}')
    world.write(SetMeta("a", "2"), SetMeta("b", "3"))
    same((world.meta("a"), world.meta("b")), ("2", "3"))
    world.write(SetMeta("a", None), SetMeta("nobody", None))
    same((world.meta("a"), world.meta("b")), (None, "3"))


def check_the_stamp_never_goes_back(world: World) -> None:
    (docs,) = world.define(Collection("docs"))
    world.put(docs, {"id": 1})
    world.now_ms -= 60_000
    session = world.session
    session.begin("write", "unit-1")
    info = session.answer(Meta("tx"))
    assert isinstance(info, TxInfo)
    same((info.stamp_ms, info.unit), (START_MS, "unit-1"))
    world.put(docs, {"id": 2})
    session.commit()
    row = world.info(docs, 2)
    assert row is not None
    same(row.modified_ms, START_MS)


def check_enabling_replication_is_seen_by_the_tables(world: World) -> None:
    docs, other = world.define(Collection("docs"), Collection("other"))
    same((docs.synced, other.synced), (False, False))
    epoch = int(world.meta("epoch"))
    world.write(SetMeta("sync.collections", '["docs"]'), SetMeta("epoch", str(epoch + 1)))
    same((docs.synced, other.synced), (True, False))
    world.put(docs, {"id": 1})
    same(docs.synced, True)


def check_a_plan_explains_itself(world: World) -> None:
    (docs,) = world.define(Collection("docs", indexes=["v"]))
    world.put(docs, {"id": 1, "v": 1, "w": 1}, {"id": 2, "v": 2, "w": 2})
    for query in (
        EMPTY,
        EMPTY.and_where(F.v > 1),
        EMPTY.and_where(F.w > 1).with_order("-w").with_limit(1),
        EMPTY.and_where(F.id == 1),
    ):
        explanation = world.store.explain(docs, query)
        same("docs" in str(explanation), True, "the collection in the text")
    same("indexes=" in str(world.store.explain(docs, EMPTY.and_where(F.w > 1))), True, "advice")


def check_sizes(world: World) -> None:
    (docs,) = world.define(Collection("docs"))
    world.put(docs, *({"id": n, "text": "x" * 1_000} for n in range(100)))
    sizes = world.store.size()
    same(sizes["total"] >= sizes["docs"] >= 100_000, True, f"sizes {sizes}")
