"""Conformance: ranked full text. Scores are compared with those of the formula, worked out once."""

from __future__ import annotations

from typing import Any

from homeport.core.fields import F
from homeport.core.query import EMPTY, QueryValue
from homeport.core.schema import Collection, FullText
from homeport.core.search import search
from homeport.core.textrequests import Found, Search, Vocabulary
from homeport.testing.conformance import World, same

DOCUMENTS: list[dict[str, Any]] = [
    {"id": "a", "title": "Clean sand", "text": "A red sand above the chalk", "n": 1},
    {"id": "b", "title": "Chalk", "text": "Fractured chalk, no sand", "n": 2},
    {"id": "c", "title": "Mud", "text": ["Losses", "clean again"], "n": 3},
    {"id": "d", "title": "東京石油", "text": "北京で石油を買う", "n": 4},
    {"id": "e", "title": "Sør", "text": "sandstone; redder sand", "n": 5},
    {"id": "f", "n": 6},
]

FOUND: list[tuple[str, dict[str, float], list[tuple[str, float]]]] = [
    ("sand", {}, [("a", 0.859957), ("e", 0.782815), ("b", 0.704678)]),
    ("sand chalk", {}, [("b", 2.207216), ("a", 1.732516)]),
    ("chalk OR losses", {}, [("c", 1.566072), ("b", 1.502538), ("a", 0.872559)]),
    ("sand -chalk", {}, [("e", 0.782815)]),
    ('"red sand"', {}, [("a", 1.892875)]),
    ("red*", {}, [("e", 1.162815), ("a", 0.872559)]),
    ("sand*", {}, [("e", 0.659452), ("a", 0.548162), ("b", 0.449183)]),
    ("title:chalk", {}, [("b", 1.192191)]),
    ("chalk", {"title": 5.0, "text": 1.0}, [("b", 1.959665), ("a", 0.872559)]),
    ("clean", {"text": 1.0}, [("c", 1.046748)]),
    ("石油", {}, [("d", 1.570337)]),
    ("京", {}, [("d", 1.049599)]),
    ("sor", {}, [("e", 1.783673)]),
    ("(chalk OR mud) -fractured", {}, [("c", 1.783673), ("a", 0.872559)]),
    ("granite", {}, []),
]
"""(query, weights, hits)"""


async def hits(
    world: World, table: Any, text: str, query: QueryValue = EMPTY, **options: Any
) -> Found:
    operation = search(table, query, text, **options)
    if not isinstance(operation.plan, Search):
        return Found([], 0, capped=False)
    found: Found = await world.answer(operation.plan)
    return found


def keys(found: Found) -> list[Any]:
    return [key for key, _, _ in found.entries]


async def check_search_gives_the_scores_of_the_formula(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=[FullText("title"), FullText("text")]))
    await world.put(docs, *DOCUMENTS)
    for text, weights, expected in FOUND:
        found = await hits(world, docs, text, fields=weights or None)
        same([(key, round(score, 6)) for key, _, score in found.entries], expected, text)
        same((found.total, found.capped), (len(expected), False), text)
        for key, body, _ in found.entries:
            document = next(doc for doc in DOCUMENTS if doc["id"] == key)
            same(docs.codec.decode(body), document, text)


async def check_search_follows_writes(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=[FullText("text")]))
    same(keys(await hits(world, docs, "sand")), [], "nothing there")
    await world.put(docs, {"id": 1, "text": "sand"}, {"id": 2, "text": "sand sand chalk"})
    same(keys(await hits(world, docs, "sand")), [1, 2])
    await world.put(docs, {"id": 1, "text": "mud"}, {"id": 3, "text": ["fine", "sand"]})
    same(keys(await hits(world, docs, "sand")), [2, 3])
    await world.delete(docs, 2)
    same(keys(await hits(world, docs, "sand OR mud")), [1, 3])
    await world.begin("write")
    await world.put(docs, {"id": 4, "text": "sand"})
    same(keys(await hits(world, docs, "sand")), [4, 3], "its own writes")
    depth = await world.savepoint()
    await world.delete(docs, 3)
    same(keys(await hits(world, docs, "sand")), [4])
    await world.rollback_to(depth)
    same(keys(await hits(world, docs, "sand")), [4, 3])
    await world.rollback()
    same(keys(await hits(world, docs, "sand")), [3])


async def check_search_with_conditions_limits_and_candidates(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=[FullText("text"), "n"]))
    await world.put(docs, *({"id": n, "text": "sand " * (n + 1), "n": n, "m": n} for n in range(9)))
    best = keys(await hits(world, docs, "sand"))
    same(best, [8, 7, 6, 5, 4, 3, 2, 1, 0])
    same(keys(await hits(world, docs, "sand", limit=3)), best[:3])
    same(keys(await hits(world, docs, "sand", EMPTY.with_offset(2), limit=3)), best[2:5])
    for condition in (F.n < 3, F.m < 3, F.n.any_of([0, 1, 2])):
        same(keys(await hits(world, docs, "sand", QueryValue(condition))), [2, 1, 0], "a condition")
    found = await hits(world, docs, "sand", limit=2, candidates=4)
    same((found.total, found.capped, len(found.entries)), (4, True, 2))
    found = await hits(world, docs, "sand", limit=2, candidates=9)
    same((found.total, found.capped, keys(found)), (9, False, best[:2]))


async def check_the_vocabulary_in_order(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=[FullText("title"), FullText("text")]))
    same(await world.answer(Vocabulary(docs, "a", "z", 5)), [])
    await world.put(docs, *DOCUMENTS)
    found = await world.answer(Vocabulary(docs, "c", "m", 3))
    same([tuple(entry) for entry in found], [("chalk", 2), ("clean", 2), ("fractured", 1)])
    found = await world.answer(Vocabulary(docs, "sand", "sand\x00", 5))
    same([tuple(entry) for entry in found], [("sand", 3)], "one word")
    found = await world.answer(Vocabulary(docs, "東", "東\U0010ffff", 5))
    same([tuple(entry) for entry in found], [("東京", 1)])
    await world.delete(docs, "a", "b")
    found = await world.answer(Vocabulary(docs, "c", "m", 5))
    same([tuple(entry) for entry in found], [("clean", 1), ("losses", 1)])


async def check_search_does_not_see_what_has_expired(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=[FullText("text")], ttl_s=10))
    await world.put(docs, {"id": 1, "text": "sand"})
    world.now_ms += 6_000
    await world.put(docs, {"id": 2, "text": "sand"})
    same(keys(await hits(world, docs, "sand")), [1, 2])
    world.now_ms += 6_000
    same(keys(await hits(world, docs, "sand")), [2])
