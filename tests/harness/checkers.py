"""The named guarantees each one checker over what clients were told and what the log holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from eventstore.event import Event
from eventstore.log.base import EventLog, Span
from eventstore.log.sqlite import SQLiteLog
from eventstore.projection import Projection
from projections.engine import BUILT_IN
from projections.replay import replay


class Acknowledged(NamedTuple):
    """A write that a client was told was accepted."""

    type: str
    id: str
    position: int
    body: Mapping[str, Any] | None
    """As answered; None for a delete, or where the answer was not kept."""


async def events_of(log: EventLog) -> list[Event]:
    """Every event of the log, in order."""
    found: list[Event] = []
    while page := await log.events(Span(found[-1].position if found else 0, limit=1000)):
        found += page
    return found


async def read_log(directory: Path) -> list[Event]:
    """Every event of a data directory, read beside whatever process writes to it."""
    log = await SQLiteLog.open(directory, write=False)
    try:
        return await events_of(log)
    finally:
        await log.close()


def gapless(events: Sequence[Event]) -> None:
    """Positions are 1 to n."""
    assert [event.position for event in events] == list(range(1, len(events) + 1))


def durable(events: Sequence[Event], acknowledged: Sequence[Acknowledged]) -> None:
    """What was acknowledged is in the log, at its position, as it was answered."""
    for one in acknowledged:
        assert one.position <= len(events), f"{one.type}/{one.id} at {one.position} is lost"
        event = events[one.position - 1]
        assert (event.type, event.id) == (one.type, one.id)
        if one.body is not None:
            assert event.data is not None
            assert json.loads(event.data) == one.body


def unique(events: Sequence[Event], acknowledged: Sequence[Acknowledged]) -> None:
    """Each accepted request is one event: no position was given to two of them."""
    positions = [one.position for one in acknowledged]
    assert len(positions) == len(set(positions))


def ordered(events: Sequence[Event]) -> None:
    """Times never decrease along positions, and a transaction's events stand together."""
    for before, after in pairwise(events):
        assert before.at <= after.at
        assert after.transaction in (before.transaction, after.position)


def fold(events: Sequence[Event]) -> dict[tuple[str, str], int]:
    """The current position of each live resource, by the log alone."""
    current: dict[tuple[str, str], int] = {}
    for event in events:
        if event.data is None:
            current.pop((event.type, event.id), None)
        else:
            current[event.type, event.id] = event.position
    return current


async def replayable(
    log: EventLog, events: Sequence[Event], projections: Sequence[Projection] = BUILT_IN
) -> None:
    """Every projection is what the log makes of it; and `current` what a fold makes that shares no code with it."""
    for projection in projections:
        found = await replay(log, projection)
        assert found.same, found
    if not any(one.name == "current" for one in projections):
        return
    rows, totals = await log.rows(
        ("SELECT type, id, position FROM quire_current", ()),
        ("SELECT type, live, events FROM quire_total", ()),
    )
    current = fold(events)
    assert {(type, id): position for type, id, position in rows} == current
    for type, live, count in totals:
        assert live == sum(key[0] == type for key in current)
        assert count == sum(event.type == type for event in events)
