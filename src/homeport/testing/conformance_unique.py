"""Conformance: unique indexes, alone, compound and multi-entry, in one write and between writes."""

from __future__ import annotations

from homeport.core.schema import Collection, Multi, Unique
from homeport.errors import KeyExists, UniqueViolation
from homeport.testing.conformance import World, same


async def check_unique_indexes(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=[Unique("name"), Unique("a", "b")]))
    await world.put(docs, {"id": 1, "name": "x"}, {"id": 2, "name": "y", "a": 1, "b": 1})
    result = await world.put(docs, {"id": 3, "name": "x"})
    same((result.keys, type(result.failures[0])), ([None], UniqueViolation))
    same(await world.get(docs, 3), None)
    same((await world.put(docs, {"id": 1, "name": "x", "v": 2})).failures, {}, "its own value")
    same(
        (await world.put(docs, {"id": 4}, {"id": 5}, {"id": 6, "name": None})).failures,
        {},
        "no value",
    )
    same((await world.put(docs, {"id": 7, "a": 1}, {"id": 8, "a": 1})).failures, {}, "half a value")
    result = await world.put(docs, {"id": 9, "a": 1, "b": 1})
    same(list(result.failures), [0])
    same((await world.put(docs, {"id": 9, "a": 1, "b": True})).failures, {}, "true is not one")


async def check_unique_indexes_within_a_bulk_put(world: World) -> None:
    """Judged by the state at the end of the write; what has to go is reported by position."""
    (docs,) = await world.define(Collection("docs", indexes=[Unique("name")]))
    await world.put(docs, {"id": 1, "name": "x"})
    result = await world.put(
        docs,
        {"id": 2, "name": "x"},  # 1 lets go of x below
        {"id": 1, "name": "y"},
        {"id": 3, "name": "x"},  # the first row that wants it has it
        {"id": 4, "name": "y"},
        {"id": 5, "name": "z"},
        {"id": 5, "name": "w"},
        {"id": 6, "name": "z"},  # 5 let go of it
    )
    same(sorted(result.failures), [2, 3])
    same(
        {key: (await world.get(docs, key))["name"] for key in (1, 2, 5, 6)},
        {1: "y", 2: "x", 5: "w", 6: "z"},
    )
    error = result.failures[3]
    same(
        {name: error.context[name] for name in ("index", "value", "key", "other")},
        {"index": "name", "value": "y", "key": 4, "other": 1},
    )


async def check_two_documents_swap_their_unique_values(world: World) -> None:
    (docs,) = await world.define(
        Collection("docs", indexes=[Unique("a", "b"), Multi("codes", unique=True)])
    )
    one, two = {"id": 1, "a": 1, "b": 1, "codes": ["p"]}, {"id": 2, "a": 1, "b": 2, "codes": ["q"]}
    await world.put(docs, one, two)
    same((await world.put(docs, {**one, "id": 2}, {**two, "id": 1})).failures, {})
    same(((await world.get(docs, 1))["b"], (await world.get(docs, 2))["codes"]), (2, ["p"]))
    # A row that has to go leaves its document as it was, which refuses the row that counted on it.
    await world.put(docs, {"id": 3, "a": 3, "b": 3, "codes": ["r"]})
    result = await world.put(
        docs,
        {"id": 1, "codes": ["p", "s"]},  # 2 does not let go of p, because of the next row
        {"id": 2, "codes": ["r"]},  # 3 holds it
        {"id": 4, "codes": ["s"]},  # free, since the first row fails
    )
    same(sorted(result.failures), [0, 1])
    same([result.failures[n].context["other"] for n in (0, 1)], [2, 3])
    same(((await world.get(docs, 2))["codes"], (await world.get(docs, 4))["codes"]), (["p"], ["s"]))


async def check_a_row_that_keeps_its_value_goes_before_one_that_takes_it(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=[Unique("name")]))
    await world.put(docs, {"id": 1, "name": "x"})
    result = await world.put(docs, {"id": 2, "name": "x"}, {"id": 1, "name": "x", "v": 1})
    same((list(result.failures), (await world.get(docs, 1))["v"]), ([0], 1))


async def check_adding_a_key_twice(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=[Unique("name")]))
    await world.put(docs, {"id": 1, "name": "x"})
    result = await world.put(
        docs,
        {"id": 2, "name": "x"},  # refused, so the next one is the first of its key
        {"id": 2, "name": "y"},
        {"id": 2, "name": "z"},
        {"id": 1, "name": "w"},
        mode="add",
    )
    same(
        {n: type(error) for n, error in result.failures.items()},
        {0: UniqueViolation, 2: KeyExists, 3: KeyExists},
    )
    same(((await world.get(docs, 2))["name"], (await world.get(docs, 1))["name"]), ("y", "x"))


async def check_unique_multi_entry_indexes(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=[Multi("codes", unique=True)]))
    await world.put(docs, {"id": 1, "codes": ["a", "b", "a"]})
    same(
        list(
            (await world.put(docs, {"id": 2, "codes": ["c", "b"]}, {"id": 3, "codes": []})).failures
        ),
        [0],
    )
    await world.put(docs, {"id": 1, "codes": ["a"]})
    same((await world.put(docs, {"id": 2, "codes": ["c", "b"]})).failures, {})
