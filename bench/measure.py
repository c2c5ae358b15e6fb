"""Interleaved rounds: every side does the same inputs, in random order, again and again.

The noise of a shared machine comes in waves that are longer than a round, so it hits all sides of a
round alike; medians over the rounds drop the rest. Absolute times move from run to run, ratios hold.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns
from typing import Any

Call = Callable[[Any], Any]


class Case:
    """One operation, done by several sides.

    inputs: makes the fresh inputs of one round, the same for every side. sides: name → the call for
    one input. finish: takes what the last call of a round returned, after the clock has stopped.
    """

    __slots__ = ("durability", "finish", "inputs", "op", "rounds", "sides")

    def __init__(
        self,
        op: str,
        durability: str | None,
        rounds: int,
        inputs: Callable[[], Sequence[Any]],
        sides: Mapping[str, Call],
        finish: Call | None = None,
    ) -> None:
        self.op = op
        self.durability = durability
        self.rounds = rounds
        self.inputs = inputs
        self.sides = sides
        self.finish = finish


def measure(case: Case, rng: random.Random, warmup: int = 2) -> dict[str, list[float]]:
    """→ side → microseconds of one call, of each round."""
    samples: dict[str, list[float]] = {side: [] for side in case.sides}
    order = list(case.sides)
    gc.collect()
    gc.freeze()
    try:
        for number in range(warmup + case.rounds):
            inputs = case.inputs()
            rng.shuffle(order)
            for side in order:
                spent_us = _round(case.sides[side], inputs, case.finish)
                if number >= warmup:
                    samples[side].append(spent_us)
    finally:
        gc.unfreeze()
    return samples


def _round(call: Call, inputs: Sequence[Any], finish: Call | None) -> float:
    result = None
    start = perf_counter_ns()
    for item in inputs:
        result = call(item)
    spent_ns = perf_counter_ns() - start
    if finish is not None:
        finish(result)
    return spent_ns / len(inputs) / 1000
