"""Copies a log to another place, event by event as they stand: positions, hashes and epochs are the same after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from eventstore.errors import Conflict, Invalid, Unavailable
from eventstore.event import Event, Position
from eventstore.follower import CHUNK_BYTES, CHUNK_EVENTS
from eventstore.log.base import EventLog, Span
from eventstore.membership import Membership
from projections.changes import changes
from projections.engine import Engine


async def copy(source: EventLog, target: EventLog, progress: Callable[[int], None]) -> int:
    """Append to the target what the source has after the target's tip, with the projections; how many events.

    Raises Invalid when the target has other events than the source, Conflict when somebody else writes to it.
    """
    members = Membership(target)
    await members.start()
    engine = Engine(target, members)
    try:
        await engine.start(_nobody_waits)
        tip = await target.tip()
        await _same(source, target, tip.position, tip.hash)
        at, done = tip.position, 0
        while events := await source.events(Span(at, limit=CHUNK_EVENTS, bytes_max=CHUNK_BYTES)):
            await _append(target, engine, at, events)
            at = events[-1].position
            done += len(events)
            progress(done)
    finally:
        await engine.stop()
        await members.stop()
    return done


async def _append(target: EventLog, engine: Engine, after: Position, events: Sequence[Event]) -> None:
    rows = engine.project(await changes(target, events))
    snapshot = await target.take({}, {})
    if snapshot.tip.position != after:
        await target.release()
        raise Conflict(
            f"the copy is at {snapshot.tip.position} and not at {after}: somebody else writes to it"
        )
    try:
        await target.append(events, rows)
    except Unavailable:
        if not await target.landed(events[-1]):
            raise


async def _same(source: EventLog, target: EventLog, position: Position, hash: bytes) -> None:
    """The target is the beginning of the source."""
    mine = source.genesis if position == 0 else None
    if position > 0 and (event := await source.at(position)) is not None:
        mine = event.hash
    if mine != hash:
        raise Invalid(
            f"the target has a log of its own, {target.id} at {position}, which is no beginning of {source.id}; "
            "copy to a place that has none"
        )


async def _nobody_waits(position: Position) -> None:
    await asyncio.Event().wait()
