"""What can happen, and how often. A schedule is a list of steps, drawn from one seed."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

KEYS: Final = ("p", "q", "r")
FIELDS: Final = ("x", "y")


class Step(NamedTuple):
    """One thing that happens. client: index of a device; key, other: of what it is about; number:
    a statement, a statement count, a direction, where the kind has one."""

    kind: str
    client: int = 0
    key: str = "p"
    other: str = "x"
    number: int = 0

    def __str__(self) -> str:
        return f"{self.kind} client={self.client} {self.key} {self.other} {self.number}"


WEIGHTS: Final[dict[str, int]] = {
    # what users do
    "set": 14,
    "put": 6,
    "delete": 3,
    "unit": 5,
    "null": 2,
    "resolve": 1,
    # what devices and networks do
    "sync": 18,
    "lose": 4,
    "drop": 2,
    "duplicate": 2,
    "replay": 2,
    "reopen": 2,
    "killed": 2,
    "partition": 1,
    "heal": 2,
    "skew": 1,
    "save": 1,
    "restore": 1,
    # what servers do
    "node": 1,
    "cut": 3,
    "uncertain": 2,
    "sql": 4,
    "sql-async": 1,
    "open": 2,
    "commit": 3,
    "abort": 1,
    "burn": 2,
    "crash": 1,
    "prune": 1,
}
RARE: Final[dict[str, int]] = {"backup": 1, "set-back": 1}
"""Only with ``server_backups=True``."""


def draw(seed: int, count: int, clients: int, weights: dict[str, int] | None = None) -> list[Step]:
    """The schedule of a seed."""
    source = random.Random(seed)  # noqa: S311 - a reproducible schedule, no secret
    chosen = weights or WEIGHTS
    kinds = source.choices(list(chosen), list(chosen.values()), k=count)
    return [
        Step(
            kind,
            source.randrange(clients),
            source.choice(KEYS),
            source.choice(FIELDS),
            source.randrange(12),
        )
        for kind in kinds
    ]
