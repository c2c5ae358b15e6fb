"""Conformance: documents, keys, bulk writes, indexes, expiry."""

from __future__ import annotations

from homeport.core.fields import F
from homeport.core.query import EMPTY, QueryValue
from homeport.core.schema import Collection, FullText, Multi, Unique
from homeport.errors import (
    HomeportError,
    InvalidKey,
    KeyExists,
    SchemaMismatch,
)
from homeport.testing.conformance import START_MS, World, raises, same

KEYS = [
    "a",
    "ä",
    "\uffff",
    "\U0001f600",
    "\U0010ffff",
    "A",
    1,
    2.5,
    -3,
    0,
    ["x", 1],
    ["x", [2]],
    [],
]
"""Document keys of every type; no two of them equal."""


async def check_put_get_delete(world: World) -> None:
    (docs,) = await world.define(Collection("docs"))
    same(await world.get(docs, "a"), None)
    result = await world.put(docs, {"id": "a", "v": 1})
    same((result.keys, result.failures), (["a"], {}))
    same(await world.get(docs, "a"), {"id": "a", "v": 1})
    await world.put(docs, {"id": "a", "w": None})
    same(await world.get(docs, "a"), {"id": "a", "w": None}, "a replaced document")
    same((await world.delete(docs, "a", "b")).keys, ["a"], "the keys that existed")
    same(await world.get(docs, "a"), None)
    same((await world.delete(docs, "a")).keys, [], "deleting nothing")


async def check_keys_of_every_type(world: World) -> None:
    (docs,) = await world.define(Collection("docs"))
    result = await world.put(docs, *({"id": key, "n": n} for n, key in enumerate(KEYS)))
    same(result.keys, KEYS)
    for n, key in enumerate(KEYS):
        same(await world.get(docs, key), {"id": key, "n": n})
    same([doc["n"] for doc in await world.get_many(docs, *KEYS)], list(range(len(KEYS))))
    same(await world.get_many(docs, "none", 1, "none"), [None, {"id": 1, "n": 6}, None])
    ordered = [-3, 0, 1, 2.5, "A", "a", "ä", "\U0001f600", "\U0010ffff", "\uffff", [], ["x", 1]]
    same(
        await world.keys(docs, QueryValue(order=(("", False),))),
        [*ordered, ["x", [2]]],
        "the order of keys",
    )
    same(len((await world.delete(docs, *KEYS)).keys), len(KEYS))
    for bad in (None, True, float("nan"), "", {"a": 1}, "a\0b", ["a\0b"], "a\ud800", "\udc00"):
        await raises(InvalidKey, world.get(docs, bad))
        await raises(InvalidKey, world.get_many(docs, "A", bad))


async def check_whole_numbers_are_one_key(world: World) -> None:
    (docs,) = await world.define(Collection("docs"))
    await world.put(docs, {"id": 1, "v": "int"})
    await world.put(docs, {"id": 1.0, "v": "float"})
    same(await world.keys(docs), [1])
    same((await world.get(docs, 1))["v"], "float")


async def check_add_refuses_existing_keys_by_position(world: World) -> None:
    (docs,) = await world.define(Collection("docs"))
    await world.put(docs, {"id": "b", "v": 0})
    result = await world.put(
        docs,
        {"id": "a", "v": 1},
        {"id": "b", "v": 1},
        {"id": "c", "v": 1},
        {"id": "c", "v": 2},
        mode="add",
    )
    same(result.keys, ["a", None, "c", None])
    same({n: type(error) for n, error in result.failures.items()}, {1: KeyExists, 3: KeyExists})
    same([(await world.get(docs, key))["v"] for key in "abc"], [1, 0, 1])


async def check_the_last_of_equal_keys_wins_in_a_bulk_put(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=["v", Multi("tags"), FullText("text")]))
    await world.put(docs, {"id": "a", "v": 0, "tags": ["old"], "text": "old"})
    await world.put(
        docs,
        {"id": "a", "v": 1, "tags": ["one"], "text": "one"},
        {"id": "b", "v": 9},
        {"id": "a", "v": 2, "tags": ["two"], "text": "two"},
    )
    same((await world.get(docs, "a"))["v"], 2)
    for word, found in (("old", []), ("one", []), ("two", ["a"])):
        same(await world.keys(docs, EMPTY.and_where(F.tags.contains(word))), found)
        same(await world.keys(docs, EMPTY.and_where(F.text.matches(word))), found)
    same(await world.keys(docs, EMPTY.and_where(F.v == 1)), [])


async def check_many_documents(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=["v"]))
    await world.put(docs, *({"id": f"d{n:05}", "v": n % 7} for n in range(3_500)))
    same(len(await world.keys(docs)), 3_500)
    same(len(await world.keys(docs, EMPTY.and_where(F.v == 3))), 500)
    page = await world.keys(docs, EMPTY.with_order("v").with_limit(1_200).with_offset(500))
    same((len(page), page[0], page[-1]), (1_200, "d00001", "d01396"))
    position: tuple[object, ...] | None = None
    seen: list[str] = []
    while True:
        query = EMPTY.with_order("-v").with_limit(700).with_after(position)
        keys = await world.keys(docs, query)
        if not keys:
            break
        seen += keys
        position = ((await world.get(docs, keys[-1]))["v"], keys[-1])
    same(sorted(seen), sorted(set(seen)), "pages without a document twice")
    same(len(seen), 3_500)


async def check_delete_where(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=["v", Multi("tags"), FullText("text")]))
    await world.put(
        docs, *({"id": n, "v": n, "tags": [n % 2], "text": f"no {n}"} for n in range(10))
    )
    found = await world.delete_where(docs, EMPTY.and_where(F.v < 3))
    same(sorted(found), [0, 1, 2])
    found = await world.delete_where(docs, EMPTY.with_order("-v").with_limit(2))
    same(sorted(found), [8, 9], "a delete with order and limit")
    same(sorted(await world.keys(docs, EMPTY.and_where(F.tags.contains(1)))), [3, 5, 7])
    same(await world.keys(docs, EMPTY.and_where(F.text.matches("8"))), [])
    same(sorted(await world.delete_where(docs, EMPTY)), [3, 4, 5, 6, 7])
    same(await world.keys(docs), [])
    await world.put(docs, {"id": 1, "tags": [1], "text": "no 9"})
    same(await world.keys(docs, EMPTY.and_where(F.text.matches("9"))), [1], "an index used again")


async def check_a_row_from_the_server_is_never_refused(world: World) -> None:
    """Rule G: it is stored even when it breaks a unique index; the document stays editable."""
    (docs,) = await world.define(Collection("docs", indexes=[Unique("name")]))
    await world.put(docs, {"id": "mine", "name": "x"})
    result = await world.put(docs, {"id": "theirs", "name": "x"}, tokens=[("7", "team")])
    same((result.keys, result.failures), (["theirs"], {}))
    same(sorted(await world.keys(docs, EMPTY.and_where(F.name == "x"))), ["mine", "theirs"])
    same(
        (await world.put(docs, {"id": "theirs", "name": "x", "v": 1})).failures,
        {},
        "an edit beside it",
    )
    same(list((await world.put(docs, {"id": "third", "name": "x"})).failures), [0])
    info = await world.info(docs, "theirs")
    assert info is not None
    same((info.token, info.bucket), ("7", "team"), "a local write keeps the token")
    await world.put(docs, {"id": "theirs", "name": "y"}, tokens=[("8", None)])
    info = await world.info(docs, "theirs")
    assert info is not None
    same((info.token, info.bucket, info.revision), ("8", None, 3))


async def check_extras_may_be_left_to_the_store(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=[Multi("tags"), FullText("text")]))
    await world.put(docs, {"id": 1, "tags": ["a"], "text": "Größe"}, given_extras=False)
    same(await world.keys(docs, EMPTY.and_where(F.tags.contains("a"))), [1])
    same(await world.keys(docs, EMPTY.and_where(F.text.matches("grosse"))), [1])


async def check_full_text(world: World) -> None:
    (docs,) = await world.define(Collection("docs", indexes=[FullText("name"), FullText("notes")]))
    await world.put(
        docs,
        {"id": 1, "name": "Brent-7 Höhe", "notes": ["drilled in two phases", "oil show"]},
        {"id": 2, "name": "brent 8", "notes": "dry; no show of oil"},
        {"id": 3, "name": 7, "notes": None},
    )
    for text, found in (
        ("brent", [1, 2]),
        ("BRENT hohe", [1]),
        ("brent-7", [1]),
        ('"brent 8"', [2]),
        ('"8 brent"', []),
        ("bre*", [1, 2]),
        ("oil", []),
        ("", []),
        ('";-', []),
        ("a OR b", []),
        ("NEAR(brent)", []),
    ):
        same(sorted(await world.keys(docs, EMPTY.and_where(F.name.matches(text)))), found, text)
    same(await world.keys(docs, EMPTY.and_where(F.notes.matches('"oil show"'))), [1])
    same(
        await world.keys(
            docs, EMPTY.and_where(F.notes.matches("show oil") & (F.name.matches("8")))
        ),
        [2],
    )
    same(sorted(await world.keys(docs, EMPTY.and_where(~F.name.matches("hohe")))), [2, 3])
    await world.put(docs, {"id": 1, "name": "other"})
    same(await world.keys(docs, EMPTY.and_where(F.name.matches("hohe"))), [])
    same(await world.keys(docs, EMPTY.and_where(F.notes.matches("phases"))), [])


async def check_row_metadata(world: World) -> None:
    (docs,) = await world.define(Collection("docs"))
    same(await world.info(docs, "a"), None)
    await world.put(docs, {"id": "a"})
    world.now_ms += 5
    await world.put(docs, {"id": "a", "v": 1})
    info = await world.info(docs, "a")
    assert info is not None
    same((info.revision, info.created_ms, info.modified_ms), (2, START_MS, START_MS + 5))
    same((info.expires_ms, info.token, info.bucket), (None, None, None))
    same(info.text, '{"id":"a","v":1}')
    await world.delete(docs, "a")
    await world.put(docs, {"id": "a"})
    info = await world.info(docs, "a")
    assert info is not None
    same((info.revision, info.created_ms), (1, START_MS + 5), "a new document of an old key")


async def check_expired_documents_are_invisible_at_once(world: World) -> None:
    (docs,) = await world.define(
        Collection("docs", indexes=[Unique("name"), Multi("tags")], ttl_s=10)
    )
    await world.put(docs, {"id": "a", "name": "x", "tags": ["t"]}, {"id": "b", "name": "y"})
    info = await world.info(docs, "a")
    assert info is not None
    same(info.expires_ms, START_MS + 10_000)
    world.now_ms += 9_999
    await world.put(docs, {"id": "b", "name": "y"})  # lives longer
    same(sorted(await world.keys(docs)), ["a", "b"])
    world.now_ms += 1
    same(await world.keys(docs), ["b"])
    same((await world.get(docs, "a"), (await world.get_many(docs, "a", "b"))[0]), (None, None))
    same(
        (
            await world.info(docs, "a"),
            await world.keys(docs, EMPTY.and_where(F.tags.contains("t"))),
        ),
        (None, []),
    )
    same((await world.delete(docs, "a")).keys, [], "an expired document is not there to delete")
    same((await world.put(docs, {"id": "c", "name": "x"})).failures, {}, "its unique value is free")
    same(
        (await world.put(docs, {"id": "a", "name": "z"}, mode="add")).failures,
        {},
        "its key is free",
    )
    info = await world.info(docs, "a")
    assert info is not None
    same(info.revision, 1)
    world.now_ms += 20_000
    same(await world.keys(docs, QueryValue(limit=5)), [])
    same(await world.delete_where(docs, EMPTY), [])


async def check_a_document_says_when_it_expires(world: World) -> None:
    (docs,) = await world.define(Collection("docs", expires_at="until", ttl_s=100))
    second = START_MS // 1000
    await world.put(
        docs,
        {"id": "a", "until": second + 10},
        {"id": "b", "until": "2100-01-01T00:00:00Z"},
        {"id": "c"},
        {"id": "d", "until": None},
        {"id": "e", "until": second - 1},
    )
    infos = [await world.info(docs, name) for name in "abcde"]
    same(
        [info and info.expires_ms for info in infos],
        [second * 1000 + 10_000, 4_102_444_800_000, START_MS + 100_000, START_MS + 100_000, None],
    )
    same(sorted(await world.keys(docs)), ["a", "b", "c", "d"], "a moment that has passed")
    first = await world.changes(None, docs)
    same((first.at_ms, first.expires_ms), (START_MS, second * 1000 + 10_000), "who goes next")
    world.now_ms += 20_000
    same(sorted(await world.keys(docs)), ["b", "c", "d"])
    later = await world.changes(first.head, docs, since_ms=first.at_ms)
    same(later.keys, {"docs": ["a"]}, "changed by the clock alone")
    same(later.expires_ms, START_MS + 100_000)
    again = await world.changes(first.head, docs, since_ms=later.at_ms)
    same(sum(map(len, (again.keys or {}).values())), 0, "told once")
    back = await world.changes(first.head, docs, since_ms=world.now_ms + 1)
    same(back.keys, None, "the clock was set back")


async def check_a_changed_key_field_is_refused(world: World) -> None:
    await world.define(Collection("docs"))
    error = await raises(SchemaMismatch, world.define(Collection("docs", key="name")))
    assert isinstance(error, HomeportError)
    same("name" in str(error), True, "the error names the key")
