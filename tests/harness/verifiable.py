"""Verifiable: the log as it is has no faults, and a changed byte or a cut tail is found, at its position."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from eventstore.audit import Report, in_order, verify
from eventstore.event import Tip
from eventstore.log.base import EventLog
from eventstore.log.opening import Place, open_log
from harness.checkers import guarantee
from harness.places import Editor, editing
from harness.tally import TALLY, Tally
from projections.check import check

FLIPS = 6
COLUMNS = ("header", "data", "context", "salt", "digest", "hash")
FOREIGN = (TALLY.name, Tally.name)
"""What the harness has put into the log's place, and `verify` rightly finds strange."""


@guarantee("Verifiable")
async def verifiable(place: Place, aside: Path, random: Random) -> None:
    """Hold the log, and damaged copies of it, against what verify says. Nobody else uses it."""
    async with _reading(place) as log:
        report = await verify(log)
        faults = [*in_order(report.faults), *in_order((await check(log, report)).faults)]
    faults = [fault for fault in faults if not any(name in fault.what for name in FOREIGN)]
    assert not faults, f"verify finds {faults[:3]}"
    async with editing(place, aside) as copy:
        for _ in range(FLIPS):
            await _flip(copy, report.tip, random)
        await _cut(copy, report.tip, random)


async def _flip(copy: Editor, tip: Tip, random: Random) -> None:
    """One byte of one event, and back again."""
    position, column = random.randrange(1, tip.position + 1), random.choice(COLUMNS)
    found = await copy.value(f"SELECT {column} FROM quire_event WHERE position = {position}")
    if not found:
        return
    place = random.randrange(len(found))
    changed = found[:place] + bytes([found[place] ^ (1 << random.randrange(8))]) + found[place + 1 :]
    update = f"UPDATE quire_event SET {column} = $1 WHERE position = {position}"
    await copy.change(update, changed)
    positions = [fault.position for fault in in_order((await _verified(copy.place)).faults)]
    assert position in positions, f"a flipped byte of {column} at {position} is told as {positions}"
    await copy.change(update, found)


async def _cut(copy: Editor, tip: Tip, random: Random) -> None:
    """The tail: what is left agrees with itself, and not with a tip that was saved."""
    after = tip.position - random.randrange(1, min(100, tip.position))
    await copy.change(f"DELETE FROM quire_event WHERE position > {after}")
    assert (await _verified(copy.place, tip)).faults.count, "a cut tail is not found"


async def _verified(place: Place, *against: Tip) -> Report:
    async with _reading(place) as log:
        return await verify(log, against=against)


@asynccontextmanager
async def _reading(place: Place) -> AsyncIterator[EventLog]:
    log = await open_log(place, write=False)
    try:
        yield log
    finally:
        await log.close()
