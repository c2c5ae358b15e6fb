"""One operation of a script on a database, in its asyncio form; the blocking form is generated.

An operation is a tuple: its name, the collection, and its arguments as plain data. What it comes to
is plain data too: a value, or the name of the error (of a bulk call, with positions).
"""

from __future__ import annotations

from typing import Any

import homeport as hp
from tests.property.shapes import Shape, changed, predicate_of


async def apply(documents: Any, op: Any) -> Any:
    """documents: a function from the name of a collection to its documents."""
    try:
        return await perform(documents(op[1]), op[0], *op[2:])
    except hp.BulkError as error:
        return ("bulk", {n: type(one).__name__ for n, one in error.failures.items()}, error.keys)
    except hp.HomeportError as error:
        return ("error", type(error).__name__)


async def perform(docs: Any, name: str, *given: Any) -> Any:
    if name in ("get", "put", "add", "delete", "get_many", "put_many", "add_many", "delete_many", "clear"):
        return await getattr(docs, name)(*given)
    if name == "patch":
        return await docs.patch(given[0], given[1])
    if name == "patch_many":
        return await docs.patch_many(given[0])
    if name == "update":
        return await docs.update(given[0], lambda document: changed(document, given[1]))
    if name == "meta":
        meta = await docs.meta(given[0])
        return None if meta is None else [meta.version, meta.created, meta.modified, meta.expires]
    return await ask(query_of(docs, given[0]), name, *given[1:])


def query_of(docs: Any, shape: Shape) -> Any:
    query = docs.where()
    for condition in shape.where:
        query = query.where(condition)
    if shape.predicate is not None:
        query = query.filter(predicate_of(shape.predicate))
    if shape.order:
        query = query.order_by(*shape.order)
    if shape.reverse:
        query = query.reverse()
    if shape.after is not None:
        query = query.after(*shape.after)
    if shape.offset:
        query = query.offset(shape.offset)
    return query if shape.limit is None else query.limit(shape.limit)


async def ask(query: Any, name: str, *given: Any) -> Any:
    if name in ("all", "first", "count", "keys", "exists"):
        return await getattr(query, name)()
    if name == "iterate":
        return [document async for document in query]
    if name == "delete_where":
        return await query.delete()
    if name == "patch_where":
        return await query.patch(given[0])
    if name == "update_where":
        return await query.update(lambda document: changed(document, given[0]))
    if name == "distinct":
        return await query.distinct(*given[0])
    if name == "aggregate":
        return await query.aggregate(
            n=hp.agg.count(), sum=hp.agg.sum(given[0]), low=hp.agg.min(given[0]), high=hp.agg.max(given[0])
        )
    assert name == "group"
    return [(row[given[0]], row["count"]) for row in await query.group_by(given[0]).aggregate(count=hp.agg.count())]
