"""Keeps the tables of an async projection up with the log, and isolates the event that it cannot handle."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.errors import Conflict, QuireError
from eventstore.event import Event, Position
from eventstore.follower import Stuck
from eventstore.log.base import EventLog
from eventstore.projection import Change, Parked, Projection, Rows
from projections.changes import Refused, changes, project, reason, sift
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
        """Up to where the tables are. Raises Conflict when they are gone: somebody else began or ended building them."""
        position = await self._log.checkpoint(self.name)
        if position is None:
            raise Conflict(f"the tables of {self.name} are gone: somebody else built them anew")
        return position

    async def handle(self, after: Position, events: Sequence[Event]) -> Position:
        """Write the rows of the events after the checkpoint; answers the checkpoint, wherever somebody else moved it.

        Those that the projection cannot handle, or whose rows the database refuses, are parked when the projection says
        so and there is room; else Stuck is raised at the first of them, and what was before it is done.
        """
        try:
            return await self._handle(after, await changes(self._log, events))
        except _Moved:
            return await self.checkpoint()

    async def _handle(self, after: Position, changes: Sequence[Change]) -> Position:
        good, wrong = sift(self._projection, changes)
        try:
            return await self._write(after, changes, good, wrong)
        except Refused as refused:  # by the database: nobody but it can tell which row
            if len(changes) == 1:
                wrong = [Parked(changes[0].event.position, str(refused))]
                return await self._write(after, changes, [], wrong)
        middle = len(changes) // 2
        return await self._handle(await self._handle(after, changes[:middle]), changes[middle:])

    async def _write(
        self, after: Position, changes: Sequence[Change], good: Sequence[Change], wrong: Sequence[Parked]
    ) -> Position:
        """All of them in one transaction; when there is no room to park what is wrong, those before it and Stuck."""
        room = await self._room() if wrong else 0
        if len(wrong) <= room or not wrong:
            until = changes[-1].event.position
            return await self._advance(after, until, project(self._projection, good), wrong)
        stop = wrong[room]
        if before := [one for one in changes if one.event.position < stop.position]:
            rows = project(self._projection, [one for one in good if one.event.position < stop.position])
            after = await self._advance(after, before[-1].event.position, rows, wrong[:room])
        already = f"; {PARKED_EVENTS_MAX} events are parked already" if self._parks else ""
        raise Stuck(f"{stop.error}{already}", stop.position, after)

    @property
    def _parks(self) -> bool:
        return self._projection.on_error == "park" and self._projection.lifecycle == "async"

    async def _room(self) -> int:
        """How many more events may be parked."""
        return PARKED_EVENTS_MAX - (await counts(self._log)).get(self.name, 0) if self._parks else 0

    async def _advance(
        self, after: Position, until: Position, rows: Rows, parked: Sequence[Parked]
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
