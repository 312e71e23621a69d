"""Verifiable: the log as it is has no faults, and a changed byte or a cut tail is found, at its position."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

from eventstore.audit import Report, in_order, verify
from eventstore.event import Tip
from eventstore.log.sqlite import LOG_FILE, SQLiteLog
from harness.checkers import guarantee
from harness.tally import TALLY, Tally
from projections.check import check

FLIPS = 6
COLUMNS = ("header", "data", "context", "salt", "digest", "hash")
FOREIGN = (TALLY.name, Tally.name)
"""What the harness has put into the log's file, and `verify` rightly finds strange."""


@guarantee("Verifiable")
async def verifiable(log: SQLiteLog, copy: Path, random: Random) -> None:
    """Hold the log, and damaged copies of it, against what verify says."""
    report = await verify(log)
    faults = [*in_order(report.faults), *in_order((await check(log, report)).faults)]
    faults = [fault for fault in faults if not any(name in fault.what for name in FOREIGN)]
    assert not faults, f"verify finds {faults[:3]}"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    with sqlite3.connect(log.path) as source, sqlite3.connect(copy / LOG_FILE) as target:
        source.backup(target)
    source.close()
    target.close()
    for _ in range(FLIPS):
        await _flip(copy, report.tip, random)
    await _cut(copy, report.tip, random)


async def _flip(copy: Path, tip: Tip, random: Random) -> None:
    """One byte of one event, and back again."""
    position, column = random.randrange(1, tip.position + 1), random.choice(COLUMNS)
    with _writing(copy) as file:
        found = file.execute(f"SELECT {column} FROM quire_event WHERE position = ?", (position,)).fetchone()[
            0
        ]
        if not found:
            return
        place = random.randrange(len(found))
        changed = found[:place] + bytes([found[place] ^ (1 << random.randrange(8))]) + found[place + 1 :]
        file.execute(f"UPDATE quire_event SET {column} = ? WHERE position = ?", (changed, position))
    report = await _verified(copy)
    positions = [fault.position for fault in in_order(report.faults)]
    assert position in positions, f"a flipped byte of {column} at {position} is told as {positions}"
    with _writing(copy) as file:
        file.execute(f"UPDATE quire_event SET {column} = ? WHERE position = ?", (found, position))


async def _cut(copy: Path, tip: Tip, random: Random) -> None:
    """The tail: what is left agrees with itself, and not with a tip that was saved."""
    with _writing(copy) as file:
        after = tip.position - random.randrange(1, min(100, tip.position))
        file.execute("DELETE FROM quire_event WHERE position > ?", (after,))
    assert (await _verified(copy, tip)).faults.count, "a cut tail is not found"


async def _verified(copy: Path, *against: Tip) -> Report:
    log = await SQLiteLog.open(copy, write=False)
    try:
        return await verify(log, against=against)
    finally:
        await log.close()


@contextmanager
def _writing(copy: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(copy / LOG_FILE)) as file, file:
        yield file
