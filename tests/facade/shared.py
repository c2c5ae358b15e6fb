"""What both forms of the facade cases use: declarations, units (coroutines in both forms), helpers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import msgspec

import homeport as hp


class Well(msgspec.Struct):
    id: str
    name: str
    field: str
    depth_m: float
    tags: list[str] = []


WELLS = hp.Collection(
    "wells",
    Well,
    indexes=[
        "depth_m",
        ("field", "depth_m"),
        hp.Multi("tags"),
        hp.Unique("name"),
        hp.FullText("name"),
        hp.Index("field", kind="hash"),
    ],
)
PLAIN = hp.Collection("plain", indexes=["n", "b.c"])
SHORT = hp.Collection("short", ttl_s=3600.0)
COUNTED = hp.Collection("counted", key_generator="autoincrement")
COLLECTIONS = [WELLS, PLAIN, SHORT, COUNTED]


def wells() -> list[Well]:
    return [
        Well("w1", "Brent-7", "Brent", 2810.5, ["oil"]),
        Well("w2", "Brent-8 north", "Brent", 1500.0, ["oil", "gas"]),
        Well("w3", "Troll-1", "Troll", 900.0),
        Well("w4", "Brent-9", "Brent", 2001.0, ["dry"]),
    ]


def ids(documents: Any) -> list[Any]:
    return [d.id if isinstance(d, Well) else d["id"] for d in documents]


def same(found: Any, expected: Any, what: str = "the answer") -> None:
    """``assert`` that says what it found where pytest does not rewrite it."""
    if found != expected:
        raise AssertionError(f"{what}: found {found!r}, expected {expected!r}")


@contextmanager
def raises(*kinds: type[BaseException]) -> Iterator[list[BaseException]]:
    caught: list[BaseException] = []
    try:
        yield caught
    except kinds as error:
        caught.append(error)
    if not caught:
        raise AssertionError(f"none of {[kind.__name__ for kind in kinds]} was raised")


def checks(module: ModuleType) -> dict[str, Callable[[Any], Any]]:
    """The cases of a module by name."""
    return {
        name.removeprefix("check_"): check
        for name, check in vars(module).items()
        if name.startswith("check_")
    }


# -- units: coroutines on both facades


async def deepen(tx: hp.Tx, by_m: float) -> float:
    """Several reads and writes of two collections: each read sees what was written before it."""
    total = 0.0
    for key in await tx[WELLS].where(hp.F.field == "Brent").keys():
        well = await tx[WELLS].patch(key, depth_m=(await tx[WELLS].get(key)).depth_m + by_m)  # type: ignore[union-attr]
        total += well.depth_m
    await tx[PLAIN].put({"id": "total", "n": total})
    deepest = await tx[WELLS].order_by("-depth_m").first()
    assert deepest is not None
    await tx[PLAIN].patch("total", deepest=deepest.id)
    return total


async def fail_half_way(tx: hp.Tx) -> None:
    await tx[PLAIN].put({"id": "half", "n": 1})
    await tx[WELLS].delete("w1")
    same(await tx[WELLS].count(), 3)
    raise LookupError("half way")


async def survive_a_failure(tx: hp.Tx) -> list[Any]:
    """An operation that fails inside a unit leaves nothing; the unit goes on."""
    await tx[PLAIN].put({"id": "a", "n": 1})
    with raises(hp.UniqueViolation):
        await tx[WELLS].put(Well("w9", "Brent-7", "Brent", 1.0))
    with raises(hp.BulkError):
        await tx[WELLS].add_many([Well("w5", "new", "Brent", 1.0), Well("w1", "old", "Brent", 1.0)])
    with raises(hp.NotFound):
        await tx[PLAIN].patch("none", n=1)
    await tx[PLAIN].put({"id": "b", "n": 2})
    return [sorted(await tx[PLAIN].keys()), await tx[WELLS].count()]


async def forgetful(tx: hp.Tx) -> None:
    await tx[PLAIN].put({"id": "kept?"})
    tx[PLAIN].put({"id": "never awaited"})


async def depths(tx: hp.Tx, field: str) -> list[Any]:
    """A unit that only reads."""
    found = [well.depth_m async for well in tx[WELLS].where(hp.F.field == field).order_by("-depth_m")]
    return [*found[:2], await tx[WELLS].count()]


async def count_and_fail(tx: hp.Tx) -> None:
    same([await tx[COUNTED].put({}), await tx[COUNTED].put({"id": 50})], [11, 50])
    raise LookupError("taken back")
