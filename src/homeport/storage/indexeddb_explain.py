"""How the IndexedDB store answers a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from homeport.core.advisor import advice
from homeport.core.explanation import Explanation, access_words, condition_words
from homeport.core.planner import Access, plan
from homeport.storage.indexeddb_route import order_of, route
from homeport.storage.indexeddb_wire import ask

if TYPE_CHECKING:
    from homeport.core.codec import Table
    from homeport.core.query import QueryValue
    from homeport.storage.indexeddb import IndexedDBStore
    from homeport.storage.indexeddb_session import Stepped


def explain(store: IndexedDBStore, table: Table[Any], query: QueryValue) -> Stepped[Explanation]:
    """Steps whose value is the explanation; rows are counted where ranges say which."""
    access, way = plan(query, table.codec), route(query, table.codec)
    whole = [[None, None, False, False, None]]
    place = store.place(table)
    commands = [{"op": "count", "s": place, "i": None, "r": whole, "now": None}]
    legs = yield from store.session().reads.legs(table, way)
    commands += [
        {"op": "count", "s": place, "i": index, "r": ranges, "now": None} for index, ranges in legs
    ]
    total, *counted = yield from ask(*commands)
    scan = access.kind == "scan"
    return Explanation(
        collection=table.name,
        query=query,
        access=access_words(None if scan else access),
        indexes=[] if scan else _names(access),
        sorts=bool(order_of(query)) and not way.sorted,
        checked=[condition_words(item) for item in access.left],
        python=way.test is not None,
        estimated_rows=min(sum(counted), total),
        total_rows=total,
        engine=[
            f"IndexedDB: {len(ranges)} range(s) of {index or 'the store'}" for index, ranges in legs
        ],
        advice=advice(query, table.codec),
    )


def _names(access: Access) -> list[str]:
    if access.kind == "union":
        return list(dict.fromkeys(name for part in access.parts for name in _names(part)))
    return [access.index or "id"]
