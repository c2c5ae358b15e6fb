"""Sums of doubles without rounding on the way: the same on every engine, in every order of rows.

A sum is kept as an expansion, a few doubles whose exact sum is the exact sum of all that went in
(Shewchuk 1997, "Adaptive precision floating-point arithmetic"). ``math.fsum`` gives the sum of a
list rounded once; what it leaves is found by adding the negative result to the list and asking
again.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import fsum, inf, isinf

BUFFER = 8_192
"""So many doubles are collected before they are folded into an expansion."""


class Exact:
    """An exact sum of numbers. ``whole``: all of them were integers."""

    __slots__ = ("_beyond", "_floats", "_whole", "count", "whole")

    def __init__(self) -> None:
        self.count = 0
        self.whole = True
        self._whole = 0  # Python's integers never round
        self._floats = array("d")
        self._beyond = Fraction(0)  # what left the range of doubles on the way

    def add_integers(self, numbers: Sequence[int]) -> None:
        self.count += len(numbers)
        self._whole += sum(numbers)

    def add_floats(self, numbers: Sequence[float]) -> None:
        if not numbers:
            return
        self.whole = False
        self.count += len(numbers)
        self._floats.extend(numbers)
        if len(self._floats) >= BUFFER:
            self._fold()

    def total(self) -> int | float:
        """The sum, rounded once; an integer when all numbers were. Beyond the largest double it is
        infinite. Of nothing it is 0."""
        if self.whole:
            return self._whole
        left, pieces = self._whole, [*self._floats]
        while left:  # an integer may hold more digits than a double
            piece = float(left)
            pieces.append(piece)
            left -= int(piece)
        if not self._beyond:
            try:
                return fsum(pieces) + 0.0  # never -0
            except OverflowError:
                pass
        return _rounded(self._beyond + sum(map(Fraction, pieces)))

    def mean(self) -> float | None:
        """The sum divided by how many there were; None of nothing."""
        return self.total() / self.count if self.count else None

    def _fold(self) -> None:
        try:
            self._floats = array("d", expansion(self._floats))
        except OverflowError:
            self._beyond += sum(map(Fraction, self._floats))
            self._floats = array("d")


def expansion(numbers: Iterable[float]) -> list[float]:
    """Doubles with the same exact sum, few of them. Raises ``OverflowError`` beyond the range."""
    rest = [*numbers]
    found: list[float] = []
    while piece := fsum(rest):
        if isinf(piece):
            raise OverflowError
        found.append(piece)
        rest.append(-piece)
    return found


def _rounded(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return inf if exact > 0 else -inf
