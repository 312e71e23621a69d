"""From events to the rows of one projection: what comes before its pure function, and what becomes of its errors."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.decide import Previous
from eventstore.event import Event
from eventstore.log.base import EventLog
from eventstore.projection import Change, Parked, Projection, Rows

ERROR_CHARACTERS_MAX = 500


class Refused(Exception):
    """The projection, or the database its rows: the fault of an event. The message says why."""


async def changes(log: EventLog, events: Sequence[Event]) -> list[Change]:
    """The events, each with the one before it of the same resource, less its body."""
    first = {(event.type, event.id): event.position for event in reversed(events)}
    before = await log.before([(*key, position) for key, position in first.items()], bodies=False)
    last: dict[tuple[str, str], Previous | None] = {
        key: before.get(position) for key, position in first.items()
    }
    found = []
    for event in events:
        key = (event.type, event.id)
        found.append(Change(event, last[key]))
        last[key] = Previous(event.position, event.action, event.at, None)
    return found


def project(projection: Projection, changes: Sequence[Change]) -> Rows:
    """What a projection makes of the changes. Raises Refused, whatever it raises."""
    rows = Rows()
    try:
        projection.project(changes, rows)
    except Exception as error:
        raise Refused(reason(error)) from error
    return rows


def sift(projection: Projection, changes: Sequence[Change]) -> tuple[list[Change], list[Parked]]:
    """The changes that the projection can handle, and those that it cannot with why; found by halving."""
    try:
        project(projection, changes)
    except Refused as refused:
        if len(changes) == 1:
            return [], [Parked(changes[0].event.position, str(refused))]
    else:
        return list(changes), []
    middle = len(changes) // 2
    good, wrong = sift(projection, changes[:middle])
    more_good, more_wrong = sift(projection, changes[middle:])
    return good + more_good, wrong + more_wrong


def reason(error: Exception) -> str:
    """An error in a few words that can be stored."""
    text = f"{type(error).__name__}: {error}".encode("utf-8", "replace").decode().replace("\0", " ")
    return text[:ERROR_CHARACTERS_MAX]
