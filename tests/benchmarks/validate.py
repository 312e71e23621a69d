"""What a verdict costs: microseconds for R5's own examples, beyond parsing them.

    PYTHONPATH=tests python -m benchmarks.validate FOLDER_OF_THE_UNPACKED_PACKAGES [--profile]

The packages are those that `make conformance` fetches into `.r5`. Each example is checked by its type as HL7 defines
it, with all of its constraints. A machine that others share changes its speed from one second to the next: so each
figure is that of a machine which adds a million numbers in ADDING_MS, by additions timed beside it. `--profile` shows
where the time of the first goes.
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import msgspec

from benchmarks.workload import CORE, EXAMPLES, FHIR_VERSION
from eventstore.body import Document, read
from eventstore.types.registry import Registry

NAMES = ("Patient-example", "Observation-example", "MedicationRequest-medrx0301", "Questionnaire-f201")
ROUNDS = 50
SECONDS = 0.01
"""Of one round; before it and after it additions are timed for as long."""
ADDING_MS = 50.0
MICROSECONDS_MAX = 150.0
"""Of the first example."""


def microseconds(work: Callable[[], object]) -> float:
    """Of one call now."""
    calls, began = 0, perf_counter()
    while (taken := perf_counter() - began) < SECONDS:
        work()
        calls += 1
    return taken / calls * 1e6


def _add() -> None:
    total = 0
    for one in range(10_000):
        total += one


def normal(work: Callable[[], object]) -> float:
    """Microseconds of one call at the normal speed: the median of the rounds."""
    found = []
    for _ in range(ROUNDS):
        before, taken, after = microseconds(_add), microseconds(work), microseconds(_add)
        found.append(taken * ADDING_MS / ((before + after) / 2 / 10))
    return statistics.median(found)


def installed(folder: Path) -> Registry:
    """The types of R5."""
    registry = Registry.empty(FHIR_VERSION)
    files = sorted((folder / CORE / "package").glob("StructureDefinition-*.json"))
    for position, file in enumerate(files, 1):
        value = msgspec.json.decode(file.read_bytes())
        registry = registry.apply(position, "StructureDefinition", value["id"], value)
    return registry


def example(folder: Path, name: str) -> Document:
    return read((folder / EXAMPLES / "package" / f"{name}.json").read_bytes())


def main(folder: Path, *, profile: bool) -> int:
    registry, figures = installed(folder), {}
    for name in NAMES:
        document = example(folder, name)
        kind = registry.served(document.value["resourceType"])
        assert kind is not None
        check = partial(registry.check, kind, document)
        assert all(one.severity == "warning" for one in check())
        if profile:
            return profiled(check)
        reading, figures[name] = normal(partial(read, document.data)), normal(check)
        print(
            f"{name:30} {len(document.data):6} bytes: read in {reading:4.0f} us, checked in {figures[name]:4.0f} us"
        )
    return 0 if figures[NAMES[0]] <= MICROSECONDS_MAX else 1


def profiled(work: Callable[[], object]) -> int:
    with cProfile.Profile() as taken:
        for _ in range(2_000):
            work()
    pstats.Stats(taken).sort_stats("tottime").print_stats(25)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), profile="--profile" in sys.argv))
