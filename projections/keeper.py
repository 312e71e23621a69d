"""Keeps the tables of an async projection up with the log, and isolates the event that it cannot handle."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.errors import QuireError
from eventstore.event import Event, Position
from eventstore.follower import Stuck
from eventstore.log.base import EventLog
from eventstore.projection import Parked, Projection, Rows
from projections.changes import Refused, changes, project, reason
from projections.parked import PARKED_EVENTS_MAX, counts


class _Moved(Exception):
    """The checkpoint is not where it was: somebody else handled these events."""


class Keeper:
    """Handles chunks of events for one projection: its rows and its checkpoint in one transaction."""

    def __init__(self, log: EventLog, projection: Projection) -> None:
        self.name = projection.name
        self._log = log
        self._projection = projection

    async def checkpoint(self) -> Position:
        """Up to where the tables are."""
        position = await self._log.checkpoint(self.name)
        assert position is not None, f"{self.name} was declared"
        return position

    async def handle(self, after: Position, events: Sequence[Event]) -> Position:
        """Write the rows of the events after the checkpoint; answers the checkpoint, wherever somebody else moved it.

        When that fails, the chunk is halved until it is clear which event is to blame: that one is parked when the
        projection says so, else Stuck is raised, and what was before it is done.
        """
        try:
            return await self._handle(after, events)
        except _Moved:
            return await self.checkpoint()

    async def _handle(self, after: Position, events: Sequence[Event]) -> Position:
        try:
            rows = project(self._projection, await changes(self._log, events))
            return await self._advance(after, events[-1].position, rows)
        except Refused as refused:
            if len(events) == 1:
                return await self._blame(after, events[0].position, str(refused))
        middle = len(events) // 2
        return await self._handle(await self._handle(after, events[:middle]), events[middle:])

    async def _advance(
        self, after: Position, until: Position, rows: Rows, parked: Sequence[Parked] = ()
    ) -> Position:
        try:
            moved = await self._log.advance(self.name, after, until, rows, parked=parked)
        except QuireError:
            raise
        except Exception as error:
            raise Refused(reason(error)) from error
        if not moved:
            raise _Moved
        return until

    async def _blame(self, after: Position, position: Position, why: str) -> Position:
        if self._projection.on_error == "halt":
            raise Stuck(why, position, after)
        if (await counts(self._log)).get(self.name, 0) >= PARKED_EVENTS_MAX:
            raise Stuck(f"{why}; {PARKED_EVENTS_MAX} events are parked already", position, after)
        return await self._advance(after, position, Rows(), [Parked(position, why)])
