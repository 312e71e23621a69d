"""The seed of a run of the fault tests, and the table that they end with."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import randrange
from typing import Any

import pytest
from harness.device import Device, needs_root
from harness.network import NatsServer
from harness.run import Begin, Row, Run

SEED = int(os.environ.get("SEED") or randrange(1_000_000))
DEVICE_MEBIBYTES = 64
_rows: list[Row] = []


@pytest.fixture
def seed() -> int:
    """Of this session."""
    return SEED


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Makes runs, each in a directory of its own."""
    runs: list[Run] = []

    def make(name: str, **options: Any) -> Run:
        options.setdefault("seed", SEED)
        options.setdefault("directory", tmp_path / str(len(runs)))
        runs.append(Run(name, **options))
        return runs[-1]

    yield make
    _rows.extend(run.row() for run in runs)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """A device of its own with little room."""
    needs_root()
    made = Device(tmp_path, DEVICE_MEBIBYTES)
    made.mount()
    yield made
    made.unmount()


def pytest_report_header() -> str:
    return f"SEED={SEED}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _rows:
        return
    terminalreporter.section(f"fault runs, SEED={SEED}")
    head = ("scenario", "seed", "seconds", "events", "kills", "acked", "refused", "unknown", "pause s", "")
    cells = [head, *((*row[:2], f"{row[2]:.0f}", *row[3:8], f"{row[8]:.1f}", row[9]) for row in _rows)]
    widths = [max(len(str(row[column])) for row in cells) for column in range(len(head))]
    for row in cells:
        parts = [
            str(cell).ljust(width) if column in (0, 9) else str(cell).rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        terminalreporter.write_line("  ".join(parts).rstrip())
