"""More than 200,000 random operations against a plain model: SQLite, memory, and (under Pyodide)
IndexedDB. A failing seed is repeated and shortened to a few steps in the message.

The machine is proved by planted faults: each must be found, and shrink to a short script.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeport.core import conditions, updates
from homeport.core.patching import REMOVE
from homeport.storage import sql_order, sql_query, sqlite_write
from homeport.storage.memory_session import MemorySession
from homeport.storage.sqlite_read import Reads
from homeport.storage.sqlite_session import SQLiteSession
from tests.portable import pyodide
from tests.property.generate import size_of
from tests.property.run import explained, failing, play, script_of, shortest
from tests.property.shapes import Shape

OPERATIONS = 400
SQLITE_SHARDS, SQLITE_SEEDS = 8, 45
MEMORY_SHARDS, MEMORY_SEEDS = 2, 70
INDEXEDDB_SEEDS, INDEXEDDB_OPERATIONS = 8, 300


def run_seeds(seeds: range, folder: Path, *, memory: bool) -> int:
    total = 0
    for seed in seeds:
        script, connections = script_of(seed, OPERATIONS, memory=memory)
        path = ":memory:" if memory else folder / f"{seed}.db"
        try:
            total += play(seed, script, path, connections)
        except Exception as error:
            error.add_note(explained(seed, OPERATIONS, memory=memory))
            raise
    return total


@pytest.mark.parametrize("shard", range(SQLITE_SHARDS))
def test_sqlite(shard: int, tmp_path: Path) -> None:
    seeds = range(shard * SQLITE_SEEDS, (shard + 1) * SQLITE_SEEDS)
    assert run_seeds(seeds, tmp_path, memory=False) >= SQLITE_SEEDS * OPERATIONS


@pytest.mark.parametrize("shard", range(MEMORY_SHARDS))
def test_memory(shard: int, tmp_path: Path) -> None:
    first = 100_000 + shard * MEMORY_SEEDS
    assert run_seeds(range(first, first + MEMORY_SEEDS), tmp_path, memory=True) >= MEMORY_SEEDS * OPERATIONS


@pytest.mark.xdist_group("pyodide")
def test_indexeddb() -> None:
    """The same scripts without the blocking facade's blocks, on two connections."""
    found = pyodide.run("inside_property.machine", [200_000, INDEXEDDB_SEEDS, INDEXEDDB_OPERATIONS])
    assert found["failed"] == {}
    assert found["operations"] >= INDEXEDDB_SEEDS * INDEXEDDB_OPERATIONS


def test_the_suite_is_as_large_as_it_says() -> None:
    total = OPERATIONS * (
        SQLITE_SHARDS * SQLITE_SEEDS + MEMORY_SHARDS * MEMORY_SEEDS
    )
    assert total >= 200_000


def test_a_script_is_the_same_every_time_and_has_everything() -> None:
    first, _ = script_of(3, 2_000, memory=False)
    again, _ = script_of(3, 2_000, memory=False)
    assert repr(first) == repr(again)
    assert sum(map(size_of, first)) >= 2_000
    kinds = {step[0] for step in first}
    text = repr(first)
    assert kinds == {"do", "unit", "block", "advance", "reopen"}
    for name in (
        "put add patch update delete put_many add_many patch_many delete_many delete_where patch_where "
        "update_where clear get get_many meta all keys count exists first iterate distinct aggregate group "
        "aside"
    ).split():
        assert f"('{name}'" in text, name
    for part in ("after=(", "offset=2", "limit=3", "reverse=True", "predicate=1", "Matches(", "Range(", "REMOVE"):
        assert part in text, part


# -- planted faults: what the machine would find


def stale_columns(patch: pytest.MonkeyPatch) -> None:
    """A patch changes the document and leaves the columns of its indexes as they were."""
    before = updates.changed_row

    def changed_row(table: Any, text: str, changes: Any) -> Any:
        row, extras = before(table, text, changes)
        return (*row[:2], *table.codec.row_of_text(text)[2:]), extras

    patch.setattr(updates, "changed_row", changed_row)


def stale_entries(patch: pytest.MonkeyPatch) -> None:
    """A patch leaves the entries of multi-entry and full-text indexes as they were."""
    before = updates.changed_row

    def changed_row(table: Any, text: str, changes: Any) -> Any:
        row, extras = before(table, text, changes)
        return row, None if extras is None else table.codec.extras_of_text(text)

    patch.setattr(updates, "changed_row", changed_row)


def wrong_ties(patch: pytest.MonkeyPatch) -> None:
    """Ties go by ascending key in both directions."""
    before = sql_order.order_by
    patch.setattr(sql_order, "order_by", lambda columns: before([*columns[:-1], (columns[-1][0], False)]))


def repeated_position(patch: pytest.MonkeyPatch) -> None:
    """A page begins with the row that the one before ended with."""
    before = sql_order.position

    def position(columns: Any, values: Any) -> Any:
        text, params = before(columns, values)
        return text.replace("id>?", "id>=?").replace("id<?", "id<=?"), params

    patch.setattr(sql_order, "position", position)


def kept_savepoint(patch: pytest.MonkeyPatch) -> None:
    """An inner transaction that fails leaves its writes."""
    patch.setattr(SQLiteSession, "rollback_to", SQLiteSession.release)


def immortal(patch: pytest.MonkeyPatch) -> None:
    """Expired documents stay visible until they are removed."""
    patch.setattr(Reads, "now", lambda self: 0)


def no_uniqueness(patch: pytest.MonkeyPatch) -> None:
    """A unique index refuses nothing in a bulk call."""
    before = sqlite_write.refusals

    def refusals(name: str, codec: Any, rows: Any, *more: Any, **options: Any) -> Any:
        return {} if len(rows) > 1 else before(name, codec, rows, *more, **options)

    patch.setattr(sqlite_write, "refusals", refusals)


def wrong_prefix(patch: pytest.MonkeyPatch) -> None:
    """starts_with() on an index ends where code points end, not UTF-16 units."""
    before = sql_query.prefix_range
    patch.setattr(sql_query, "prefix_range", lambda prefix: (before(prefix)[0], before(prefix)[0] + "\ud7ff"))


def lost_undo(patch: pytest.MonkeyPatch) -> None:
    """Rolling back in memory forgets the last step."""
    before = MemorySession._back_to

    def back_to(self: Any, undo: int, touched: int) -> None:
        del self._undo[max(undo, len(self._undo) - 2) :]
        before(self, undo, touched)

    patch.setattr(MemorySession, "_back_to", back_to)


def forgotten_row(patch: pytest.MonkeyPatch) -> None:
    """A scan in memory misses the document that came last."""
    before = MemorySession._entries

    def entries(self: Any, table: Any, query: Any) -> Any:
        found = before(self, table, query)
        return found[:-1] if len(found) > 5 and not query.order else found

    patch.setattr(MemorySession, "_entries", entries)


IN_MEMORY = {lost_undo, forgotten_row}
FAULTS = [
    stale_columns, stale_entries, wrong_ties, repeated_position, kept_savepoint, immortal, no_uniqueness,
    wrong_prefix, lost_undo, forgotten_row,
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found_and_shortened(fault: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    memory = fault in IN_MEMORY
    fault(monkeypatch)
    for seed in range(60):
        script, connections = script_of(seed, 150, memory=memory)
        try:
            play(seed, script, ":memory:" if memory else tmp_path / f"{seed}.db", connections)
        except Exception as error:
            assert f"of seed {seed}" in error.__notes__[0]
            short = shortest(script, failing(seed, connections, memory=memory))
            assert len(short) <= 6, short
            assert failing(seed, connections, memory=memory)(short)
            break
    else:
        pytest.fail(f"{fault.__name__} was not found in 60 scripts")
    monkeypatch.undo()
    assert not failing(seed, connections, memory=memory)(short), "the script blames the fault alone"


def test_the_report_of_a_failing_seed_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten_row(monkeypatch)
    seed = next(n for n in range(60) if failing(n, 1, memory=True)(script_of(n, 150, memory=True)[0]))
    report = explained(seed, 150, memory=True)
    steps = [line.strip().rstrip(",") for line in report.splitlines()[1:]]
    assert len(steps) <= 6
    names = {**vars(conditions), "Shape": Shape, "REMOVE": REMOVE}
    assert failing(seed, 1, memory=True)([eval(step, names) for step in steps])
