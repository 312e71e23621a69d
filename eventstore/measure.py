"""Counting what happens, cheaply: a histogram that the shell turns into metrics when asked."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate


class Histogram:
    """How often values fell at or below each bound; values in the unit that the name says."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by bound, the last bound being +Inf."""
        names = [*(str(bound) for bound in self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
EVENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
