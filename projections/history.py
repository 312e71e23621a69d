"""The history of a resource, a type or the whole log: live from the log, newest first, paged by position."""

from __future__ import annotations

import msgspec

from eventstore.event import Event, Position
from eventstore.log.base import EventLog, Span, bytes_of
from projections.query import PAGE_BYTES_MAX, totals

HISTORY_DEFAULT = 100
HISTORY_MAX = 1000


class HistoryQuery(msgspec.Struct, frozen=True):
    """Events in (after, until], newest first, `count` at most."""

    type: str | None = None
    id: str | None = None
    after: Position = 0
    until: Position | None = None
    count: int = HISTORY_DEFAULT


class HistoryPage(msgspec.Struct, frozen=True):
    """`next` is the position to go on from, downwards; None on the last page."""

    events: list[Event]
    total: int
    next: Position | None


async def history(log: EventLog, query: HistoryQuery) -> HistoryPage:
    """Read one page. The total counts all versions after `query.after`, whatever the page."""
    span = Span(
        query.after,
        query.until,
        query.type,
        query.id,
        newest_first=True,
        limit=query.count + 1,
        bytes_max=PAGE_BYTES_MAX,
    )
    events = await log.events(span)
    more = len(events) > query.count or bytes_of(events) >= PAGE_BYTES_MAX
    events = events[: query.count]
    return HistoryPage(events, await _total(log, query), events[-1].position - 1 if more and events else None)


async def _total(log: EventLog, query: HistoryQuery) -> int:
    if query.id is None and query.after == 0:
        return (await totals(log, query.type))[1]
    return await log.count(Span(query.after, None, query.type, query.id))
