"""The whole comparison: one contest for each size, from the smallest to the largest."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import memory, peers
from bench.cities import ROOT, Cities
from bench.contest import Contest, Pace, Result
from bench.corpus import Corpus
from bench.operations import BY_NAME, OPEN, READS, TEXTS, WRITES, Operation
from bench.peers.base import Peer
from bench.report import Facts, Row, rows_of

SLOW = 3
"""A peer leaves when one call of it would take so many times its budget at the next size."""
KEPT = (peers.OURS, peers.REFERENCE, *peers.HELPERS)
TEXT_SIZE = NOTIFY_SIZE = 100_000
"""Texts, and a live query that holds every document, end here."""


def compare(
    folder: Path,
    supply: Cities,
    sizes: Sequence[int],
    names: Sequence[str],
    operations: Sequence[Operation],
    pace: Pace,
    rng: random.Random,
    tell: Callable[[str], None],
    keep: Callable[[list[Row], list[Facts]], None] = lambda rows, facts: None,
) -> tuple[list[Row], list[Facts]]:
    """Measure → rows and facts. A peer whose load or whose scan gets too slow leaves the contest
    at the next size, and its rows say so. keep: is given what there is after each part."""
    results: list[Result] = []
    facts: list[Facts] = []
    classes: dict[str, type[Peer]] = {}
    out: dict[str, str] = {}
    for name in names:
        try:
            classes[name] = peers.load(name)
        except ImportError as error:
            out[name] = f"not installed ({error.name})"
    corpus = Corpus(supply, sizes[-1])
    for place, size in enumerate(sizes):
        sample = corpus.sample(size, rng)
        contest = Contest(
            folder / str(size),
            {name: peer for name, peer in classes.items() if name not in out},
            sample,
            pace,
            rng,
            lambda text, size=size: tell(f"{size:,} documents: {text}"),
        )
        try:
            contest.load()
            out |= contest.left
            facts += _facts(contest, pace)
            keep(rows_of([*results, *_of(contest, operations)]), facts)
            contest.reads(operations)
            keep(rows_of([*results, *_of(contest, operations)]), facts)
            if size <= TEXT_SIZE:
                contest.text(operations)
                keep(rows_of([*results, *_of(contest, operations)]), facts)
            contest.writes([op for op in operations if op.name != "notify" or size <= NOTIFY_SIZE])
        finally:
            contest.close()
        results += _of(contest, operations)
        keep(rows_of(results), facts)
        results += _absent(out, operations, size)
        if place + 1 < len(sizes):
            step = sizes[place + 1] / size
            for name, spent_s in contest.load_s.items():
                if spent_s * step > pace.load_budget_s:
                    out[name] = f"stopped: loading {size:,} documents took {spent_s:.1f} s"
            for result in contest.results.values():
                if result.op in ("load", "iterate") or not result.samples:
                    continue
                spent_s = statistics.median(result.samples) / 1e6
                if spent_s * step > SLOW * pace.budget_s and result.side not in KEPT:
                    what = BY_NAME[result.op].title
                    out[result.side] = f"stopped: {what} took {spent_s:.2g} s at {size:,} documents"
    return rows_of(results), facts


def _of(contest: Contest, operations: Sequence[Operation]) -> list[Result]:
    names = {operation.name for operation in operations}
    return [result for result in contest.results.values() if result.op in names]


def _absent(out: dict[str, str], operations: Sequence[Operation], size: int) -> list[Result]:
    rows = []
    for name, reason in out.items():
        for operation in operations:
            if operation in READS or operation in (OPEN, *TEXTS):
                rows.append(Result(operation.name, size, None, name, reason=reason))
            elif operation in WRITES:
                rows += [
                    Result(operation.name, size, level, name, reason=reason)
                    for level in peers.load(name).durabilities
                ]
            else:
                rows.append(Result(operation.name, size, None, name, reason=reason))
    return rows


def _facts(contest: Contest, pace: Pace) -> list[Facts]:
    keys, ranges = contest.sample.keys(1000), contest.sample.ranges(10, 1000)
    found = []
    for name in contest.classes:
        if name in peers.HELPERS:
            continue
        contest.tell(f"memory {name}")
        place = contest.folder / "cities" / name
        seen = memory.ask(ROOT, name, place, keys, ranges, pace.load_budget_s) or {}
        found.append(
            Facts(
                n=contest.sample.size,
                side=name,
                file_bytes=contest.bytes[name],
                start_ms=seen.get("start_ms"),
                open_bytes=_whole(seen.get("open_bytes")),
                work_bytes=_whole(seen.get("work_bytes")),
                peak_bytes=_whole(seen.get("peak_bytes")),
            )
        )
    return found


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
