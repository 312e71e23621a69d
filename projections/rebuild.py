"""Builds a projection's tables anew from the log, beside those that stand, and switches when they are at the tip.

Writes go on meanwhile: each chunk is a short transaction of its own, through the connection that all writes take turns
on. What fails leaves the tables that stand as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from eventstore.errors import Conflict, QuireError
from eventstore.event import Position
from eventstore.follower import CHUNK_BYTES
from eventstore.log.base import AppendFailed, EventLog, Span, bytes_of
from eventstore.projection import Parked, Projection, Rows, beside
from projections.changes import Refused, changes, project
from projections.keeper import Keeper
from projections.parked import counts

REBUILD_CHUNK_EVENTS = 1000
SWITCH_EVENTS_MAX = 1000
"""What may be left to do while the log is held for the switch."""

Progress = Callable[[Position, Position], None]
"""Told, now and then, how far it is, and where the log's end is."""


class Rebuilt(msgspec.Struct, frozen=True, rename="camel"):
    """What a rebuild did."""

    projection: str
    position: Position
    """The tip at the switch."""
    parked: int
    """Events that the new tables go without."""
    seconds: float


def untold(_position: Position, _tip: Position) -> None:
    """For who wants no progress."""


async def rebuild(log: EventLog, projection: Projection, progress: Progress = untold) -> Rebuilt:
    """Make the tables anew and put them in the place of those that stand, at the tip.

    Raises Stuck at an event that the projection cannot handle and does not park; then, and after any other error, the
    tables that stand are as they were. Killed or cancelled, it leaves tables beside, which the next start or rebuild
    drops.
    """
    started = time.monotonic()
    declared = (projection.name, projection.version, projection.tables)
    await log.declare(*declared)
    await log.beside(*declared)
    building = _Building(log, projection)
    try:
        await building.fill(progress)
        while not await building.switched():
            await building.fill(progress)
    except Exception:
        with suppress(QuireError):
            await log.discard(projection.name)
        raise
    progress(building.position, building.position)
    parked = (await counts(log)).get(projection.name, 0)
    await log.discard(projection.name)
    return Rebuilt(projection.name, building.position, parked, round(time.monotonic() - started, 3))


class _Building(Keeper):
    """Keeps the tables beside. SQL views are made at the switch: there is one of a name."""

    def __init__(self, log: EventLog, projection: Projection) -> None:
        super().__init__(log, projection)
        self.name = beside(projection.name)
        self.position: Position = 0
        self._views = Rows()

    async def fill(self, progress: Progress) -> None:
        """Handle what there is, chunk by chunk, until little is left; there is always something while writes go on."""
        while True:
            span = Span(self.position, limit=REBUILD_CHUNK_EVENTS, bytes_max=CHUNK_BYTES)
            if events := await self._log.events(span):
                self.position = await self.handle(self.position, events)
            tip = (await self._log.tip()).position
            progress(self.position, max(self.position, tip))
            if tip - self.position <= SWITCH_EVENTS_MAX // 2:
                return

    async def _advance(
        self, after: Position, until: Position, rows: Rows, parked: Sequence[Parked]
    ) -> Position:
        await super()._advance(after, until, rows.beside(), parked)
        for type, exists in rows.views.items():
            self._views.view(type, exists)
        return until

    async def switched(self) -> bool:
        """Take the log, do what little is left, and switch. False when that is too much or fails: first `fill` again."""
        await self._log.take()
        try:
            tip = (await self._log.look()).tip.position
            rows = await self._rest(tip)
        except BaseException:
            await self._log.release()
            raise
        if rows is None:
            await self._log.release()
            return False
        name, inline = self._projection.name, self._projection.lifecycle == "inline"
        try:
            if not await self._log.switch(name, self.position, tip, rows, inline=inline):
                raise Conflict(f"{name} was begun to be built anew by somebody else")
        except AppendFailed:
            return False
        self.position = tip
        return True

    async def _rest(self, tip: Position) -> Rows | None:
        """The rows of what is left, with all views; None when it is too much, or cannot be handled in one go."""
        events = await self._log.events(
            Span(self.position, tip, limit=SWITCH_EVENTS_MAX + 1, bytes_max=CHUNK_BYTES)
        )
        if len(events) > SWITCH_EVENTS_MAX or bytes_of(events) >= CHUNK_BYTES:
            return None
        try:
            made = project(self._projection, await changes(self._log, events))
        except Refused:
            return None
        rows = made.beside()
        for type, exists in (*self._views.views.items(), *made.views.items()):
            rows.view(type, exists)
        return rows
