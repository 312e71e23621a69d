"""Copies a log to another place, event by event as they stand: positions, hashes and epochs are the same after it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from eventstore.claiming import forget
from eventstore.errors import Conflict, Invalid, Unavailable
from eventstore.event import Event, Position, Tip
from eventstore.follower import CHUNK_BYTES, CHUNK_EVENTS
from eventstore.log.base import EventLog, Span
from eventstore.membership import Membership
from eventstore.server.times import written
from projections.changes import changes
from projections.engine import Engine


async def end_of_copy(source: EventLog, until: str, now: datetime) -> Tip:
    """Where a copy ends: at the source's tip, or with `until` at this position or before this time.

    A time is ISO 8601 with its zone. Raises Invalid for what is neither, for one that the log has not reached or that
    is before its first event, and for a position inside a transaction: a copy has it whole or not at all.
    """
    tip = await source.tip()
    if not until:
        return tip
    position = int(until) if re.fullmatch("[0-9]{1,16}", until) else await source.since(_time(until, now))
    if position > tip.position:
        raise Invalid(f"--until {until}: the log ends at {tip.position}")
    last = await source.events(Span(until=position, newest_first=True, limit=1))
    if not last:
        raise Invalid(f"--until {until}: the log has no event up to there")
    following = await source.events(Span(last[0].position, limit=1))
    if following and following[0].transaction <= last[0].position:
        start = following[0].transaction
        raise Invalid(
            f"--until {until} is inside the transaction that begins at {start}; "
            f"end before it, at {start - 1}, or after all of it"
        )
    return Tip(last[0].position, last[0].at, last[0].hash)


def _time(text: str, now: datetime) -> str:
    """A time as events have it. Raises Invalid for one without a zone, or that has not come yet."""
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise Invalid(f"--until {text}: a time needs its zone, such as Z or +02:00 at its end")
        time = time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid(
            f"--until {text[:200]}: neither a position nor a time such as 2026-11-20T17:42:13Z"
        ) from None
    if time > now:
        raise Invalid(f"--until {text}: that time has not come yet; it is {written(now)}")
    return written(time)


async def copy(source: EventLog, target: EventLog, end: Tip, progress: Callable[[int], None]) -> int:
    """Append to the target what the source has after the target's tip and up to the end, with the projections.

    Answers how many events. Raises Invalid when the target has other events than the source or is beyond the end,
    Conflict when somebody else writes to it.
    """
    members = Membership(target)
    await members.start()
    engine = Engine(target, members)
    try:
        await engine.start(_nobody_waits)
        tip = await target.tip()
        await _same(source, target, tip.position, tip.hash)
        if tip.position > end.position:
            raise Invalid(
                f"the target is at {tip.position} already, beyond {end.position}; copy to a place that has no log"
            )
        await forget(target)
        at, done = tip.position, 0
        while events := await _next(source, at, end.position):
            await _append(target, engine, at, events)
            at = events[-1].position
            done += len(events)
            progress(done)
    finally:
        await engine.stop()
        await members.stop()
    return done


async def _next(source: EventLog, after: Position, until: Position) -> list[Event]:
    """The next events, some whole transactions: a copy that is killed ends between two."""
    events: list[Event] = []
    while True:
        at = events[-1].position if events else after
        more = await source.events(Span(at, until, limit=CHUNK_EVENTS, bytes_max=CHUNK_BYTES))
        events += more
        if not more or events[-1].position == until:
            return events
        last = events[-1].transaction
        if whole := [event for event in events if event.transaction != last]:
            return whole


async def _append(target: EventLog, engine: Engine, after: Position, events: Sequence[Event]) -> None:
    rows = engine.project(await changes(target, events))
    await target.take()
    try:
        tip = (await target.look()).tip.position
        if tip != after:
            raise Conflict(f"the copy is at {tip} and not at {after}: somebody else writes to it")
    except BaseException:
        await target.release()
        raise
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
