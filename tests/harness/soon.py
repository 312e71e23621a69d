"""What must not take long, whatever the machine: the limit is of its CPU time, and grows with how slow the machine is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import process_time

ADDITIONS = 200_000
NORMAL_SECONDS = 0.01
"""What so many additions take on a machine that nobody else uses."""


@contextmanager
def soon(seconds: float) -> Iterator[None]:
    """Asserts that what is inside took at most so long, if the machine had its normal speed before and after."""
    before = _additions()
    started = process_time()
    yield
    taken = process_time() - started
    slowness = max(1.0, before / NORMAL_SECONDS, _additions() / NORMAL_SECONDS)
    assert taken < seconds * slowness, f"{taken:.2f} s of CPU on a machine {slowness:.1f} times slower"


def _additions() -> float:
    """Seconds of CPU for a known amount of work."""
    total, started = 0, process_time()
    for one in range(ADDITIONS):
        total += one
    return process_time() - started
