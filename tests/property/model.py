"""The plain model: dictionaries, and every document asked about every condition.

It shares with the library what a condition and an order mean (``core.evaluate``, proved by its own
table of cases) and nothing else: no index, no plan, no codec, no storage. Unique indexes and bulk
calls are judged by what has to be true of the outcome.
"""

from __future__ import annotations

import copy
from fractions import Fraction
from itertools import product
from typing import Any

from homeport.core.evaluate import compile_condition, position_key, sort_key
from homeport.core.keys import encode, order
from homeport.core.patching import REMOVE
from homeport.core.schema import Collection, Index
from tests.property.shapes import Shape, changed, predicate_of


class Mismatch(AssertionError):
    """The library and the model disagree."""


def need(truth: bool, *words: Any) -> None:
    if not truth:
        raise Mismatch(" ".join(str(word) for word in words))


def value_at(document: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(document, dict) or name not in document:
            return None
        document = document[name]
    return document


class Row:
    __slots__ = ("created", "document", "expires", "key", "modified", "version")

    def __init__(self, key: Any, document: dict[str, Any], now: int, ttl_ms: int | None, old: Row | None) -> None:
        self.key = key
        self.document = document
        self.version = 1 if old is None else old.version + 1
        self.created = now if old is None else old.created
        self.modified = now
        self.expires = None if ttl_ms is None else now + ttl_ms


Rows = dict[Any, Row]


class Model:
    def __init__(self, collections: list[Collection[Any]], now_ms: int) -> None:
        self.collections = {one.name: one for one in collections}
        self.rows: dict[str, Rows] = {one.name: {} for one in collections}
        self.now_ms = now_ms
        self.stamp_ms = 0

    # -- whole states, for transactions

    def snapshot(self) -> dict[str, Rows]:
        return {name: dict(rows) for name, rows in self.rows.items()}

    def restore(self, state: dict[str, Rows]) -> None:
        self.rows = state

    def alive(self, name: str) -> Rows:
        rows = self.rows[name]
        if self.collections[name].ttl_s is None:
            return rows
        return {k: row for k, row in rows.items() if row.expires is None or row.expires > self.now_ms}

    # -- one operation

    def check(self, op: Any, outcome: Any) -> None:
        """Compare the outcome of an operation with what it has to be, and follow it."""
        name, collection, *given = op
        getattr(self, f"_{name}")(collection, outcome, *given)

    def _set(self, name: str, key: Any, document: dict[str, Any]) -> None:
        ttl_s = self.collections[name].ttl_s
        old = self.alive(name).get(encode(key))
        ttl_ms = None if ttl_s is None else int(ttl_s * 1000)
        self.rows[name][encode(key)] = Row(key, document, self.now_ms, ttl_ms, old)

    # reads

    def _get(self, name: str, outcome: Any, key: Any) -> None:
        self._same(outcome, self._document(name, key))

    def _get_many(self, name: str, outcome: Any, keys: list[Any]) -> None:
        self._same(outcome, [self._document(name, key) for key in keys])

    def _document(self, name: str, key: Any) -> Any:
        row = self.alive(name).get(encode(key))
        return None if row is None else row.document

    def _meta(self, name: str, outcome: Any, key: Any) -> None:
        row = self.alive(name).get(encode(key))
        if row is None:
            need(outcome is None, "meta of a missing document:", outcome)
            return
        need(outcome[0] == row.version, "version", outcome[0], "instead of", row.version)
        times = [None if one is None else round(one.timestamp() * 1000) for one in outcome[1:]]
        need(times == [row.created, row.modified, row.expires], "times", times, "of", key)

    def _same(self, found: Any, wanted: Any) -> None:
        # Not ==: 1, 1.0 and True are different things to store.
        need(repr(found) == repr(wanted), "found", repr(found), "instead of", repr(wanted))

    # single writes

    def _put(self, name: str, outcome: Any, document: dict[str, Any], *, adding: bool = False) -> None:
        document = copy.deepcopy(document)
        if "id" not in document:
            if not isinstance(outcome, str):
                need(self._clash(name, document, None), "refused without reason:", outcome)
                return
            document["id"] = outcome
        key = document["id"]
        alive = self.alive(name)
        if adding and encode(key) in alive:
            # Both reasons may hold.
            clash = self._clash(name, document, key)
            allowed = [("error", "KeyExists")] + ([("error", "UniqueViolation")] if clash else [])
            need(outcome in allowed, "an existing key was added:", outcome)
            return
        if self._clash(name, document, key):
            need(outcome == ("error", "UniqueViolation"), "a taken value was stored:", outcome)
            return
        self._same(outcome, key)
        self._set(name, key, document)

    def _add(self, name: str, outcome: Any, document: dict[str, Any]) -> None:
        self._put(name, outcome, document, adding=True)

    def _patch(self, name: str, outcome: Any, key: Any, changes: dict[str, Any]) -> None:
        row = self.alive(name).get(encode(key))
        if row is None:
            need(outcome == ("error", "NotFound"), "a missing document was patched:", outcome)
            return
        document = patched(row.document, changes)
        if document is None:
            need(outcome == ("error", "InvalidDocument"), "a value was replaced by an object:", outcome)
        elif self._clash(name, document, key):
            need(outcome == ("error", "UniqueViolation"), "a taken value was patched in:", outcome)
        else:
            self._same(outcome, document)
            self._set(name, row.key, document)

    def _update(self, name: str, outcome: Any, key: Any, change: tuple[str, Any]) -> None:
        row = self.alive(name).get(encode(key))
        if row is None:
            need(outcome == ("error", "NotFound"), "a missing document was updated:", outcome)
            return
        document = changed(row.document, change)
        if self._clash(name, document, key):
            need(outcome == ("error", "UniqueViolation"), "a taken value was updated in:", outcome)
        else:
            self._same(outcome, document)
            self._set(name, row.key, document)

    def _delete(self, name: str, outcome: Any, key: Any) -> None:
        self._delete_many(name, outcome, [key])

    def _delete_many(self, name: str, outcome: Any, keys: list[Any]) -> None:
        gone = {encode(key) for key in keys} & self.alive(name).keys()
        need(outcome == len(gone), "deleted", outcome, "instead of", len(gone))
        for key in gone:
            del self.rows[name][key]

    def _clear(self, name: str, outcome: Any) -> None:
        need(outcome == len(self.alive(name)), "cleared", outcome)
        self.rows[name].clear()

    # bulk writes

    def _put_many(self, name: str, outcome: Any, documents: list[Any], *, adding: bool = False) -> None:
        documents = copy.deepcopy(documents)
        failures = self._failures(outcome, len(documents))
        before = dict(self.alive(name))
        after: Rows = dict(before)
        added: set[Any] = set()
        for n, document in enumerate(documents):
            key = encode(document["id"])
            if n in failures:
                continue
            if adding:
                need(key not in before and key not in added, "added over", document["id"])
            added.add(key)
            self._set(name, document["id"], document)
            after[key] = self.rows[name][key]
        self._need_unique(name, after)
        for n, kind in failures.items():
            key = encode(documents[n]["id"])
            if kind == "KeyExists":
                need(adding and (key in before or key in added), "position", n, "did not exist")
            else:
                need(kind == "UniqueViolation", "position", n, "failed by", kind)
                need(self._clash(name, documents[n], documents[n]["id"]), "position", n, "could have been stored")
        if not failures:
            self._same(outcome, [document["id"] for document in documents])

    def _add_many(self, name: str, outcome: Any, documents: list[Any]) -> None:
        self._put_many(name, outcome, documents, adding=True)

    def _patch_many(self, name: str, outcome: Any, pairs: list[Any]) -> None:
        failures = self._failures(outcome, len(pairs))
        alive = dict(self.alive(name))
        made: list[Any] = []
        for n, (key, changes) in enumerate(pairs):
            row = alive.get(encode(key))
            document = None if row is None else patched(row.document, changes)
            made.append(document)
            wanted = "NotFound" if row is None else "InvalidDocument" if document is None else None
            if wanted is not None or n in failures:
                kinds = (wanted,) if wanted is not None else ("UniqueViolation",)
                need(failures.get(n) in kinds, "position", n, "failed by", failures.get(n), "not", wanted)
                continue
            self._set(name, row.key, document)  # type: ignore[union-attr, arg-type]
        self._need_unique(name, self.alive(name))
        for n, kind in failures.items():
            if kind == "UniqueViolation":
                need(self._clash(name, made[n], pairs[n][0]), "position", n, "could have been patched")

    def _failures(self, outcome: Any, rows: int) -> dict[int, str]:
        if isinstance(outcome, list):
            need(len(outcome) == rows, len(outcome), "keys of", rows, "rows")
            return {}
        need(isinstance(outcome, tuple) and outcome[0] == "bulk", "a bulk call came to", outcome)
        failures: dict[int, str] = outcome[1]
        need(all((key is None) is (n in failures) for n, key in enumerate(outcome[2])), "keys", outcome)
        return failures

    # writes by query

    def _delete_where(self, name: str, outcome: Any, shape: Shape) -> None:
        keys = [row.key for row in self._matching(name, shape)]
        self._delete_many(name, outcome, keys)

    def _patch_where(self, name: str, outcome: Any, shape: Shape, changes: dict[str, Any]) -> None:
        self._change_where(name, outcome, shape, lambda document: patched(document, changes))

    def _update_where(self, name: str, outcome: Any, shape: Shape, change: tuple[str, Any]) -> None:
        self._change_where(name, outcome, shape, lambda document: changed(document, change))

    def _change_where(self, name: str, outcome: Any, shape: Shape, make: Any) -> None:
        matching = self._matching(name, shape)
        made = [make(row.document) for row in matching]
        before = self.snapshot()
        if None not in made:
            for row, document in zip(matching, made, strict=True):
                self._set(name, row.key, document)
        twins = None not in made and self._twins(name, self.alive(name))
        if None not in made and not twins:
            need(outcome == len(matching), "changed", outcome, "instead of", len(matching))
            return
        self.restore(before)
        kinds = {"InvalidDocument", "UniqueViolation"} if None in made else {"UniqueViolation"}
        need(isinstance(outcome, tuple) and outcome[0] in ("error", "bulk"), "it was changed:", outcome)
        if outcome[0] == "error":
            need(outcome[1] in {*kinds, "BulkError"}, "refused by", outcome)

    # queries

    def _matching(self, name: str, shape: Shape) -> list[Row]:
        """The rows of a query, in its order; within its limit only where that has one meaning."""
        tests = [compile_condition(condition) for condition in shape.where]
        rows = [row for row in self.alive(name).values() if all(test(row.document) for test in tests)]
        if shape.predicate is not None:
            rows = [row for row in rows if predicate_of(shape.predicate)(row.document)]
        columns = columns_of(shape)
        placed = columns or ((("", False),) if shape.offset or shape.after is not None else ())
        if placed:
            rows.sort(key=lambda row: sort_key(placed, row.document, row.key))
        if shape.after is not None:
            values = shape.after if columns else (shape.after[-1], shape.after[-1])
            behind = position_key(placed, values)
            rows = [row for row in rows if sort_key(placed, row.document, row.key) > behind]
        rows = rows[shape.offset :]
        return rows[: shape.limit] if placed and shape.limit is not None else rows

    def _compare(self, shape: Shape, found: list[Any], wanted: list[Any], what: str) -> None:
        placed = shape.order or shape.reverse or shape.offset or shape.after is not None
        if placed:
            need(repr(found) == repr(wanted), what, repr(found), "instead of", repr(wanted))
        elif shape.limit is None:
            need(
                sorted(map(repr, found)) == sorted(map(repr, wanted)),
                what, repr(found), "instead of", repr(wanted),
            )  # fmt: skip
        else:
            need(len(found) == min(shape.limit, len(wanted)), what, len(found), "rows of", len(wanted))
            pool = list(map(repr, wanted))
            need(all(repr(one) in pool for one in found), what, repr(found), "of", repr(wanted))

    def _all(self, name: str, outcome: Any, shape: Shape) -> None:
        self._compare(shape, outcome, [row.document for row in self._matching(name, shape)], "all")

    def _keys(self, name: str, outcome: Any, shape: Shape) -> None:
        self._compare(shape, outcome, [row.key for row in self._matching(name, shape)], "keys")

    def _iterate(self, name: str, outcome: Any, shape: Shape) -> None:
        # Without an order an iteration goes by key.
        if not columns_of(shape):
            shape = shape._replace(order=("id",), after=None if shape.after is None else (shape.after[-1],) * 2)
        self._all(name, outcome, shape)

    def _count(self, name: str, outcome: Any, shape: Shape) -> None:
        wanted = len(self._matching(name, shape))
        wanted = wanted if shape.limit is None else min(wanted, shape.limit)
        need(outcome == wanted, "count", outcome, "instead of", wanted)

    def _exists(self, name: str, outcome: Any, shape: Shape) -> None:
        wanted = bool(self._matching(name, shape)) and shape.limit != 0
        need(outcome is wanted, "exists", outcome)

    def _first(self, name: str, outcome: Any, shape: Shape) -> None:
        if shape.limit != 0:
            shape = shape._replace(limit=1)
        self._compare(
            shape,
            [] if outcome is None else [outcome],
            [row.document for row in self._matching(name, shape)],
            "first",
        )

    def _values(self, name: str, shape: Shape, path: str) -> list[Any]:
        return [value_at(row.document, path) for row in self._matching(name, shape)]

    def _group_keys(self, document: dict[str, Any], path: str) -> set[Any]:
        """The groups of a document: an array is one value, whatever indexes there are."""
        return {encode(value_at(document, path))}

    def _distinct(self, name: str, outcome: Any, shape: Shape, paths: tuple[str, ...]) -> None:
        found: set[Any] = set()
        for row in self._matching(name, shape):
            found |= set(product(*(self._group_keys(row.document, path) for path in paths)))
        wanted = sorted((keys for keys in found if None not in keys), key=lambda keys: tuple(map(order, keys)))
        given = [(encode(one),) if len(paths) == 1 else tuple(map(encode, one)) for one in outcome]
        need(given == wanted, "distinct", outcome, "instead of", wanted)

    def _aggregate(self, name: str, outcome: Any, shape: Shape, path: str) -> None:
        values = self._values(name, shape, path)
        keys = sorted((key for one in values if (key := encode(one)) is not None), key=order)
        numbers = [one for one in values if type(one) in (int, float)]
        need(outcome["n"] == len(values), "n", outcome)
        need(encode(outcome["low"]) == (keys[0] if keys else None), "low", outcome)
        need(encode(outcome["high"]) == (keys[-1] if keys else None), "high", outcome)
        exact = sum(map(Fraction, numbers))
        wanted = int(exact) if all(type(one) is int for one in numbers) else float(exact)
        need(outcome["sum"] == wanted, "sum", outcome["sum"], "instead of", wanted)

    def _group(self, name: str, outcome: Any, shape: Shape, path: str) -> None:
        groups: dict[Any, int] = {}
        for row in self._matching(name, shape):
            for key in self._group_keys(row.document, path):
                groups[key] = groups.get(key, 0) + 1
        wanted = sorted(groups.items(), key=lambda item: order(item[0]))
        need([(encode(value), n) for value, n in outcome] == wanted, "groups", outcome, "instead of", wanted)

    # -- unique indexes

    def _held(self, index: Index, document: dict[str, Any]) -> set[Any]:
        if index.multi:
            *heads, last = index.fields
            values = value_at(document, last)
            elements = values if isinstance(values, list) else []
            if heads:
                head = [value_at(document, path) for path in heads]
                found = {encode([*head, one]) for one in elements}
            else:
                found = {encode(one) for one in elements}
            return found - {None}
        keys = tuple(encode(value_at(document, path)) for path in index.fields)
        return set() if None in keys else {keys}

    def _clash(self, name: str, document: dict[str, Any], key: Any) -> bool:
        """Does another living document hold a unique value of this one?"""
        own = None if key is None else encode(key)
        for index in self.collections[name].indexes:
            if not index.unique:
                continue
            mine = self._held(index, document)
            for other, row in self.alive(name).items() if mine else ():
                if other != own and mine & self._held(index, row.document):
                    return True
        return False

    def _twins(self, name: str, rows: Rows) -> bool:
        for index in self.collections[name].indexes:
            if not index.unique:
                continue
            seen: set[Any] = set()
            for row in rows.values():
                held = self._held(index, row.document)
                if held & seen:
                    return True
                seen |= held
        return False

    def _need_unique(self, name: str, rows: Rows) -> None:
        need(not self._twins(name, rows), "two documents hold one unique value")


def columns_of(shape: Shape) -> tuple[tuple[str, bool], ...]:
    columns = tuple((one.removeprefix("-"), one.startswith("-")) for one in shape.order)
    if shape.reverse:
        columns = tuple((path, not down) for path, down in columns) or (("", True),)
    return columns


def patched(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any] | None:
    """The document after a patch; None when a value stands in the way."""
    document = copy.deepcopy(document)
    for path, value in changes.items():
        *way, last = path.split(".")
        here: Any = document
        for name in way:
            inner = here.get(name)
            if inner is None and value is not REMOVE:
                inner = here[name] = {}
            if not isinstance(inner, dict):
                if value is REMOVE:
                    here = None
                    break
                return None
            here = inner
        if here is None:
            continue
        if value is REMOVE:
            here.pop(last, None)
        else:
            here[last] = value
    return document

