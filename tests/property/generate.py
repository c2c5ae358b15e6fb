"""Scripts: random operations as plain data, from a seed."""

from __future__ import annotations

import random
from typing import Any

from homeport.core.conditions import (
    And,
    AnyOf,
    Between,
    Compare,
    Condition,
    Contains,
    IgnoreCase,
    Matches,
    Missing,
    Not,
    Or,
    Range,
    StartsWith,
)
from homeport.core.patching import REMOVE
from homeport.core.schema import Collection, FullText, Index, Multi, Unique
from homeport.errors import InvalidQuery
from tests.property.shapes import Shape

FIELDS = ["a", "b", "n.x", "a", "b"]
TEXTS = ["", "a", "ab", "A", "é", "e\u0301", "\ue000", "\uffff", "\U0001f600", "\U0010ffff", "two words", "Höhe hohe"]
NUMBERS = [0, -0.0, 1, 1.0, 1.5, -3, 2, 3, 2**53, -(2**53), 1e300, -1e-300, 5e-324]
SCALARS = [*TEXTS, *NUMBERS, *NUMBERS, True, False, None]
OPERANDS = [*SCALARS, 5, "d0", [], [1], [1, "a"], ["x", 1]]
WORDS = ["hohe", "two", '"two words"', "wor*", "!", "a ab", "-two a", "two OR hohe", "(a OR two) words"]
KEYS = [*(f"d{n}" for n in range(14)), 5, 2.5, -1, 0, 7, 8, "\uffff", "\U0001f600", "A", "é", ["x", 1], [], [["y"]]]
CODES = [f"c{n}" for n in range(9)]
INDEXES: list[Any] = [
    "a", "b", "n.x", ("a", "b"), ("b", "n.x"), ("n.x", "a", "b"), ("b", "a"), Multi("tags"), Multi("a", "tags"),
    Multi("b"), Unique("u"), Unique("b", "u"), Multi("codes", unique=True), FullText("t"), FullText("a"),
    Index("a", kind="hash"), Index("a", "b", kind="hash"), Index("b", sparse=True), Index("u", kind="hash", unique=True),
]  # fmt: skip


def collections_of(seed: int) -> list[Collection[Any]]:
    """Three collections: one with an arbitrary choice of indexes, one without, one that expires."""
    rng = random.Random(f"{seed} collections")
    chosen: dict[str, Index] = {}
    for form in rng.sample(INDEXES, rng.choice([0, 3, 5, 8, len(INDEXES)])):
        index = form if isinstance(form, Index) else Index(*([form] if isinstance(form, str) else form))
        if all(index.name != one.name and index.spec != one.spec for one in chosen.values()):
            chosen[index.name] = index
    return [
        Collection("docs", indexes=list(chosen.values())),
        Collection("other"),
        Collection("short", indexes=["a", Unique("u"), Multi("tags")], ttl_s=10),
    ]


class Generator:
    """Makes one script. blocks: with the blocking facade's nested transactions; connections: so many
    databases on one file."""

    def __init__(self, seed: int, *, blocks: bool, connections: int) -> None:
        self.rng = random.Random(seed)
        self.blocks = blocks
        self.connections = connections
        self.collections = collections_of(seed)

    def script(self, operations: int) -> list[Any]:
        made: list[Any] = []
        total = 0
        while total < operations:
            step = self.step()
            total += size_of(step)
            made.append(step)
        return made

    def step(self) -> Any:
        rng, kind = self.rng, self.rng.random()
        connection = rng.randrange(self.connections)
        if kind < 0.02:
            return ("advance", rng.choice([0, 1, 500, 4_000, 12_000]))
        if kind < 0.024:
            return ("reopen", connection)
        if kind < 0.05:
            ops = [self.operation() for _ in range(rng.randint(1, 6))]
            return ("unit", connection, ops, rng.random() < 0.6)
        if kind < 0.08 and self.blocks:
            return ("block", connection, *self.block(0))
        return ("do", connection, self.operation())

    def block(self, depth: int) -> tuple[list[Any], bool]:
        """(operations and inner blocks, is it kept)."""
        items: list[Any] = []
        for _ in range(self.rng.randint(1, 4)):
            kind = self.rng.random()
            if kind < 0.25 and depth < 3:
                items.append(("block", *self.block(depth + 1)))
            elif kind < 0.35 and self.connections > 1:
                items.append(("aside", self.read()))
            else:
                items.append(("do", self.operation()))
        return items, self.rng.random() < 0.6

    # -- operations

    def operation(self) -> Any:
        rng = self.rng
        kind = rng.random()
        where = rng.choice(["docs", "docs", "docs", "other", "short"])
        if kind < 0.42:
            return self.read(where)
        if kind < 0.57:
            return (rng.choice(["put", "put", "put", "add"]), where, self.document(keyless=0.05))
        if kind < 0.67:
            return ("patch", where, self.key(), self.changes())
        if kind < 0.72:
            return ("update", where, self.key(), self.change())
        if kind < 0.77:
            return ("delete", where, self.key())
        if kind < 0.88:
            documents = [self.document() for _ in range(rng.choice([0, 1, 2, 4, 8]))]
            return (rng.choice(["put_many", "put_many", "add_many"]), where, documents)
        if kind < 0.92:
            keys = rng.sample(KEYS, rng.randint(1, 6))
            return ("patch_many", where, [(key, self.changes()) for key in keys])
        if kind < 0.95:
            return ("delete_many", where, [self.key() for _ in range(rng.randint(0, 5))])
        if kind < 0.953:
            return ("clear", where)
        if kind < 0.97:
            return ("delete_where", where, self.shape(definite=True, narrow=True))
        if kind < 0.985:
            return ("patch_where", where, self.shape(definite=True, narrow=True), self.changes())
        return ("update_where", where, self.shape(definite=True, narrow=True), self.change())

    def read(self, where: str = "docs") -> Any:
        rng = self.rng
        name = rng.choice(
            ["get", "get", "get_many", "meta", "all", "all", "keys", "keys", "keys", "count", "count", "exists",
             "first", "iterate", "distinct", "aggregate", "group"]
        )  # fmt: skip
        if name in ("get", "meta"):
            return (name, where, self.key())
        if name == "get_many":
            return (name, where, [self.key() for _ in range(rng.randint(0, 5))])
        if name in ("distinct", "aggregate", "group"):
            shape = self.shape(definite=True)
            path = rng.choice(["a", "b", "n.x", "u"])
            if name == "group":
                return (name, where, shape, rng.choice(["a", "b", "n.x", "u", "tags"]))
            if name == "distinct":
                return (name, where, shape, (path,) if rng.random() < 0.7 else ("a", "b"))
            return (name, where, shape, path)
        shape = self.shape()
        if name == "iterate":
            shape = shape._replace(predicate=None) if shape.after is not None and not shape.order else shape
        return (name, where, shape)

    def key(self) -> Any:
        return self.rng.choice(KEYS)

    def document(self, *, keyless: float = 0) -> dict[str, Any]:
        rng = self.rng
        made: dict[str, Any] = {} if rng.random() < keyless else {"id": self.key()}
        for name, chance in (("a", 0.7), ("b", 0.7), ("n", 0.4), ("t", 0.3), ("tags", 0.4), ("codes", 0.2), ("u", 0.35)):
            if rng.random() < chance:
                made[name] = self.value(name)
        return made

    def value(self, name: str) -> Any:
        rng = self.rng
        if name == "n":
            inner = {"x": rng.choice(SCALARS)} if rng.random() < 0.9 else {}
            return inner if rng.random() < 0.8 else rng.choice(SCALARS)
        if name == "t":
            return rng.choice(TEXTS) if rng.random() < 0.7 else [rng.choice(TEXTS) for _ in range(rng.randint(0, 3))]
        if name == "tags":
            return [rng.choice(SCALARS) for _ in range(rng.randint(0, 3))] if rng.random() < 0.95 else rng.choice(SCALARS)
        if name == "codes":
            return rng.sample(CODES, rng.randint(0, 2))
        if name == "u":
            return rng.choice([*range(12), *CODES, True, None])
        kind = rng.random()
        if kind < 0.85:
            return rng.choice(SCALARS)
        if kind < 0.95:
            return [rng.choice(SCALARS) for _ in range(rng.randint(0, 2))]
        return {"y": rng.choice(SCALARS)}

    def changes(self) -> dict[str, Any]:
        rng = self.rng
        made: dict[str, Any] = {}
        for path in rng.sample(["a", "b", "n.x", "t", "tags", "codes", "u"], rng.randint(1, 3)):
            if rng.random() < 0.15:
                made[path] = REMOVE
            elif path == "n.x":
                made[path] = rng.choice(SCALARS)
            else:
                made[path] = self.value(path)
        return made

    def change(self) -> tuple[str, Any]:
        name = self.rng.choice(["a", "b", "n", "t", "tags", "u"])
        return (name, self.value(name))

    # -- queries

    def shape(self, *, definite: bool = False, narrow: bool = False) -> Shape:
        """definite: which rows it has must not be the store's choice; narrow: it has a condition."""
        rng = self.rng
        where = tuple(self.condition(0) for _ in range(rng.choice([1, 1, 2] if narrow else [0, 1, 1, 1, 2])))
        order = tuple(
            rng.choice(["", "-"]) + path
            for path in dict.fromkeys(rng.choice([*FIELDS, "id"]) for _ in range(rng.choice([0, 0, 1, 1, 2])))
        )
        shape = Shape(where, order, reverse=rng.random() < 0.15)
        placed = bool(order) or shape.reverse
        if rng.random() < 0.35 and (placed or not definite):
            shape = shape._replace(limit=rng.choice([0, 1, 2, 3, 7, 20]))
        if rng.random() < 0.15:
            shape = shape._replace(offset=rng.choice([1, 2, 5]))
        if rng.random() < 0.15:
            key = self.key()
            values = [key if path.endswith("id") else rng.choice(SCALARS) for path in order]
            if shape.reverse and not order:
                values = [key]  # it goes by key, downwards
            shape = shape._replace(after=(*values, key))
        if rng.random() < 0.08 and not narrow:
            shape = shape._replace(predicate=rng.randrange(3))
        if definite and shape.limit is not None and shape.after is None and not placed and not shape.offset:
            shape = shape._replace(limit=None)
        return shape

    def condition(self, depth: int) -> Condition:
        rng = self.rng
        kind = rng.random()
        if depth < 3 and kind < 0.28:
            if kind < 0.08:
                return Not(self.condition(depth + 1))
            join = And if kind < 0.18 else Or
            return join([self.condition(depth + 1) for _ in range(rng.choice([1, 2, 2, 3]))])
        while True:
            try:
                return self.leaf()
            except InvalidQuery:
                continue  # operands without an order, or of two types

    def leaf(self) -> Condition:
        rng = self.rng
        path = rng.choice([*FIELDS, *FIELDS, "u", "id", "absent.x"])
        kind, operand = rng.randrange(14), rng.choice(OPERANDS)
        if path == "id" and rng.random() < 0.8:
            operand = self.key()
        other = rng.choice(OPERANDS)
        open_, closed = rng.random() < 0.5, rng.random() < 0.5
        if kind < 5:
            return Compare(path, rng.choice(["==", "==", "!=", "<", "<=", ">", ">="]), operand)  # type: ignore[arg-type]
        if kind < 7:
            return Between(path, operand, other, open_, closed)
        if kind == 7:
            return AnyOf(path, [rng.choice(OPERANDS) for _ in range(rng.randint(0, 3))])
        if kind == 8:
            return StartsWith(path, rng.choice(TEXTS))
        if kind == 9:
            return Missing(path)
        if kind == 10:
            if rng.random() < 0.3:
                return Contains("codes", rng.choice(CODES))
            return Contains(rng.choice(["tags", "tags", "a", "b"]), rng.choice(SCALARS))
        if kind == 11:
            return Matches(rng.choice(["t", "t", "a"]), rng.choice(WORDS))
        if kind == 12:
            return IgnoreCase(path, rng.choice([["a"], ["É", "a"], ["two"]]), rng.random() < 0.5)
        return Range(path, rng.choice([None, operand]), rng.choice([None, other]), open_, closed)


def size_of(step: Any) -> int:
    """How many operations a step of a script has."""
    if step[0] == "unit":
        return 1 + len(step[2])
    if step[0] == "block":
        items = step[-2]
        return 1 + sum(size_of(item) for item in items)
    return 1
