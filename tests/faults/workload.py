"""What the devices (and the programs that write plain SQL) do, and what must hold in every view.

Every change is one transaction: a document in ``ledger`` that says what was done, and the doing.
So a view of any replica at any time can be checked against itself: counters, accounts and jobs are
exactly what its ledger says. A lost change, a change applied twice, and half a transaction all show.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import homeport as hp

COUNTERS = [f"c{n}" for n in range(3)]
ACCOUNTS = [f"a{n}" for n in range(4)]
START = 100
NOTES = [f"n{n}" for n in range(4)]
FIELDS = ["f0", "f1"]

COLLECTIONS = [
    hp.Collection("ledger"),
    hp.Collection("counters", sync=hp.Synced(fields={"n": hp.Counter()})),
    hp.Collection("accounts", sync=hp.Synced(fields={"n": hp.Counter()})),
    hp.Collection("jobs"),
    hp.Collection("notes", sync=hp.Synced("merge")),
    hp.Collection("last", sync=hp.Synced("last-write-wins")),
]
NAMES = [c.name for c in COLLECTIONS]
View = Mapping[str, Mapping[str, dict[str, Any]]]
"""collection → key → document"""


def first_documents() -> list[tuple[str, str, dict[str, Any]]]:
    """What is there before anybody begins: (collection, key, document)."""
    return [
        *(("counters", key, {"id": key, "n": 0}) for key in COUNTERS),
        *(("accounts", key, {"id": key, "n": START}) for key in ACCOUNTS),
    ]


def vector(ledger: Iterable[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Writer → [how many of its entries, the highest number]."""
    out: dict[str, list[int]] = {}
    for doc in ledger:
        found = out.setdefault(doc["w"], [0, 0])
        found[0] += 1
        found[1] = max(found[1], doc["i"])
    return out


def torn(view: View) -> list[str]:
    """Where a view contradicts its own ledger."""
    counters = dict.fromkeys(COUNTERS, 0)
    accounts = dict.fromkeys(ACCOUNTS, START)
    opened: set[str] = set()
    closed: set[str] = set()
    for doc in view["ledger"].values():
        match doc["op"]:
            case "add":
                counters[doc["k"]] += doc["x"]
            case "move":
                accounts[doc["a"]] -= doc["x"]
                accounts[doc["b"]] += doc["x"]
            case "open":
                opened.add(doc["id"])
            case "close":
                closed.add(doc["job"])
            case _:
                pass
    out: list[str] = []
    for name, expected in (("counters", counters), ("accounts", accounts)):
        found = {key: doc["n"] for key, doc in view[name].items()}
        if not found and not view["ledger"]:
            continue  # before the first cut
        if found != expected:
            out.append(f"{name} are {found}, by the ledger {expected}")
    jobs = set(view["jobs"])
    if more := jobs - (opened - closed):
        out.append(f"jobs {sorted(more)[:5]} are {'open again' if more <= closed else 'invented'}")
    if missing := (opened - closed) - jobs:
        out.append(f"jobs {sorted(missing)[:5]} are missing")
    return out


def canonical(view: View) -> str:
    """The same bytes for the same documents."""
    return json.dumps(view, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
