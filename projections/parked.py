"""The events that projections went on without: which they are, and to hand them to their projection again."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from eventstore.errors import Conflict, QuireError
from eventstore.event import Position
from eventstore.follower import CHUNK_BYTES, CHUNK_EVENTS
from eventstore.log.base import EventLog, Span
from eventstore.log.sql import queries
from eventstore.projection import Parked, Projection, Rows
from projections.changes import Refused, changes, project, reason

PARKED_EVENTS_MAX = 1000
"""Of one projection. At the next one it halts: what fails so often is not the fault of events."""

_SQL = {dialect: queries("projections.sql", dialect) for dialect in ("sqlite", "postgres")}


class Unparked(msgspec.Struct, frozen=True, rename="camel"):
    """What became of a projection's parked events."""

    projection: str
    handled: int
    parked: int
    """Those that failed again, and still are."""


async def counts(log: EventLog) -> dict[str, int]:
    """How many events each projection has parked; nothing of those that have none."""
    (rows,) = await log.rows((_SQL[log.dialect]["parked_counts"], ()))
    return {name: int(number) for name, number in rows}


async def listed(log: EventLog, name: str, limit: int = PARKED_EVENTS_MAX) -> list[Parked]:
    """The parked events of a projection, oldest first."""
    (rows,) = await log.rows((_SQL[log.dialect]["parked"], (name, limit)))
    return [Parked(*row) for row in rows]


async def unpark(log: EventLog, projection: Projection) -> Unparked:
    """Hand each parked event to the projection again, oldest first; what fails again stays parked, with its new error.

    Later events of the same resource may have been handled meanwhile. So they are handed over again after it, and
    their upserts and deletes are the last word; their sums were added then and are not added twice.
    Raises Conflict when the tables are of another version: to build them anew handles every event.
    """
    if await log.declare(projection.name, projection.version, projection.tables) is None:
        raise Conflict(f"the tables of {projection.name} are of another version; build them anew")
    parked = [one.position for one in await listed(log, projection.name)]
    handled = 0
    for position in parked:
        handled += await _handled(log, projection, position, parked)
    return Unparked(projection.name, handled, len(parked) - handled)


async def _handled(
    log: EventLog,
    projection: Projection,
    position: Position,
    parked: Collection[Position],
) -> bool:
    """Try one, as of wherever the checkpoint is; again when it moved meanwhile."""
    while True:
        checkpoint = await log.checkpoint(projection.name)
        assert checkpoint is not None
        try:
            rows = await _again(log, projection, position, checkpoint, parked)
            done = await _resolve(log, projection.name, checkpoint, rows, position)
        except Refused as refused:
            again = [Parked(position, str(refused))]
            if await log.advance(projection.name, checkpoint, checkpoint, Rows(), parked=again):
                return False
        else:
            if done:
                return True
        if position not in [one.position for one in await listed(log, projection.name)]:
            return True


async def _resolve(log: EventLog, name: str, checkpoint: Position, rows: Rows, position: Position) -> bool:
    try:
        return await log.advance(name, checkpoint, checkpoint, rows, resolved=[position])
    except QuireError:
        raise
    except Exception as error:
        raise Refused(reason(error)) from error


async def _again(
    log: EventLog, projection: Projection, position: Position, until: Position, parked: Collection[Position]
) -> Rows:
    """The rows of an event that was left out, with what later ones of its resource made of them."""
    event = await log.at(position)
    assert event is not None, f"{position} was parked, so it is in the log"
    rows = project(projection, await changes(log, [event]))
    after = position
    while events := await log.events(
        Span(after, until, event.type, event.id, limit=CHUNK_EVENTS, bytes_max=CHUNK_BYTES)
    ):
        later = [one for one in await changes(log, events) if one.event.position not in parked]
        rows.overlay(project(projection, later))
        after = events[-1].position
    return rows
