"""Interleaved rounds: every side does the same inputs, in random order, again and again.

The noise of a shared machine comes in waves that are longer than a round, so it hits all sides of a
round alike; medians over the rounds drop the rest. Absolute times move from run to run, ratios hold.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

Call = Callable[[Any], Any]


@dataclass
class Side:
    """One side of a case.

    per_round: how many of the inputs of a round it does; rounds: in how many it takes part. A slow
    side does fewer of both, so that it stays within its budget.
    finish: takes what the last call of a round returned, after the clock has stopped.
    """

    name: str
    call: Call
    is_async: bool = False
    per_round: int = 1
    rounds: int = 1
    finish: Call | None = None
    samples: list[float] = field(default_factory=list)


def plan(estimate_us: float, per_round: int, rounds: int, budget_s: float) -> tuple[int, int]:
    """→ (calls in a round, rounds) that keep a side within its budget."""
    budget_us = budget_s * 1_000_000
    if estimate_us * per_round * rounds > budget_us:
        per_round = max(1, min(per_round, int(budget_us / rounds / estimate_us)))
        rounds = max(1, min(rounds, int(budget_us / per_round / estimate_us)))
    return per_round, rounds


def measure(
    sides: Sequence[Side],
    inputs: Callable[[], Sequence[Any]],
    rounds: int,
    rng: random.Random,
    loop: asyncio.AbstractEventLoop,
    warmup: int = 2,
) -> None:
    """Fill the ``samples`` of each side: microseconds of one call, one figure for each round."""
    order = list(sides)
    gc.collect()
    gc.freeze()
    try:
        for number in range(-warmup, rounds):
            given = inputs()
            rng.shuffle(order)
            for side in order:
                if number < 0 and side.rounds < rounds:
                    continue  # a slow side needs no warming
                # Those with fewer rounds take part in some that are spread over all.
                if number >= 0 and number * side.rounds // rounds == (
                    (number - 1) * side.rounds // rounds if number else -1
                ):
                    continue
                spent_us = _round(side, given[: side.per_round], loop)
                if number >= 0:
                    side.samples.append(spent_us)
    finally:
        gc.unfreeze()


def _round(side: Side, inputs: Sequence[Any], loop: asyncio.AbstractEventLoop) -> float:
    if side.is_async:
        spent_ns, result = loop.run_until_complete(_timed_async(side.call, inputs))
    else:
        spent_ns, result = _timed(side.call, inputs)
    if side.finish is not None:
        side.finish(result)
    return spent_ns / len(inputs) / 1000


def _timed(call: Call, inputs: Sequence[Any]) -> tuple[int, Any]:
    result = None
    start = perf_counter_ns()
    for item in inputs:
        result = call(item)
    return perf_counter_ns() - start, result


async def _timed_async(call: Call, inputs: Sequence[Any]) -> tuple[int, Any]:
    result = None
    start = perf_counter_ns()
    for item in inputs:
        result = await call(item)
    return perf_counter_ns() - start, result
