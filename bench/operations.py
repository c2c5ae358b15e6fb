"""The operations: which inputs, how many in a round, and how an answer is proved right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.corpus import Sample


@dataclass(frozen=True)
class Operation:
    """One call of a peer's method, again and again.

    per_round: calls of one round. point: touches the same number of documents in any collection, so
    its cost may grow with the depth of a tree and no faster. per_document: the time is given for
    each document of the collection.
    """

    name: str
    title: str
    method: str
    per_round: int
    inputs: Callable[[Sample, int], Sequence[Any]]
    writes: bool = False
    point: bool = True
    per_document: bool = False


READS = (
    Operation("get", "get by key", "get", 100, lambda s, n: s.keys(n)),
    Operation("bulk_get_100", "get 100 by key", "get_many", 5, lambda s, n: s.key_lists(n)),
    Operation("equal", "indexed equality", "equal", 20, lambda s, n: s.equal_names(n)),
    Operation("range_1000", "range, 1,000 hits", "between", 2, lambda s, n: s.ranges(n, 1000)),
    Operation("compound_eq", "compound equality", "compound", 10, lambda s, n: s.some_areas(n)),
    Operation("order_limit", "order, first 50", "ordered", 20, lambda s, n: s.floors(n)),
    Operation(
        "count",
        "count a tenth",
        "count",
        10,
        lambda s, n: s.ranges(n, max(1, s.size // 10)),
        point=False,
    ),
    Operation(
        "iterate",
        "iterate all, each",
        "iterate",
        1,
        lambda _, n: [None] * n,
        point=False,
        per_document=True,
    ),
)
WRITES = (
    Operation("put", "put one", "put", 20, lambda s, n: s.new(n), writes=True),
    Operation(
        "bulk_put_200",
        "put 200",
        "put_many",
        1,
        lambda s, n: [s.new(200) for _ in range(n)],
        writes=True,
    ),
    Operation("patch", "update one field", "patch", 20, lambda s, n: s.changes(n), writes=True),
    Operation("delete", "delete one", "delete", 20, lambda s, n: [], writes=True),
    Operation("notify", "put until seen", "notify", 10, lambda s, n: s.new(n), writes=True),
)
TEXT = Operation("text", "word in text, 50 hits", "text", 10, lambda s, n: [])
SEARCH = Operation("search_20", "common word, best 20", "search", 5, lambda s, n: [], point=False)
TEXTS = (TEXT, SEARCH)
OPEN = Operation("open", "open, get one", "open", 1, lambda s, n: [None] * n)
LOAD = Operation(
    "load",
    "load, each",
    "load",
    1,
    lambda s, n: [None] * n,
    writes=True,
    point=False,
    per_document=True,
)
ALL = (LOAD, OPEN, *READS, TEXT, SEARCH, *WRITES)
BY_NAME = {operation.name: operation for operation in ALL}
