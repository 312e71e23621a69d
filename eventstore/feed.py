"""The feed: every change in order, from any cursor, served from memory near the tip and from the log behind it."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec

from eventstore.errors import Diverged, Malformed
from eventstore.event import Event, Position, Tip
from eventstore.log.base import EventLog, Span, bytes_of

TAIL_EVENTS = 10_000
TAIL_BYTES_MAX = 64 * 1024 * 1024
PAGE_EVENTS_MAX = 1000
PAGE_BYTES_MAX = 4 * 1024 * 1024
TAG_DIGITS = 8
TICK_SECONDS = 0.02
TICK_SECONDS_PER_CLIENT = 0.00004

_CURSOR = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([0-9a-f]{8}))?\Z", re.ASCII)


class Cursor(msgspec.Struct, frozen=True):
    """A place in the feed: after the event at `position`. `tag` is of that event's hash; empty: as of this log."""

    position: Position
    tag: str = ""

    def __str__(self) -> str:
        return f"{self.position}.{self.tag}" if self.tag else str(self.position)

    @classmethod
    def of(cls, position: Position, hash: bytes) -> Cursor:
        """The cursor after an event."""
        return cls(position, hash.hex()[:TAG_DIGITS])

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Parse `position.tag` or a bare position. Raises Malformed."""
        match = _CURSOR.match(text)
        if match is None:
            raise Malformed(
                f"{text[:80]!r} is no cursor: write position.tag as it was given, a position, or now",
                code="value",
            )
        return cls(int(match[1]), match[2] or "")


class InTheFuture(Malformed):
    """A cursor beyond the log's end, which is at `tip`."""

    def __init__(self, cursor: Cursor, tip: Tip) -> None:
        super().__init__(f"{cursor} is in the future: the log is at {tip.position}", code="value")
        self.tip = tip


class Filter(msgspec.Struct, frozen=True):
    """Which events a client wants: all, or those of one type, or of one resource."""

    type: str | None = None
    id: str | None = None

    def matches(self, event: Event) -> bool:
        return (self.type is None or event.type == self.type) and (self.id is None or event.id == self.id)


EVERYTHING = Filter()


class Page(msgspec.Struct, frozen=True):
    """Events that match, oldest first, and the cursor after everything that was looked at."""

    events: Sequence[Event]
    cursor: Cursor


class Feed:
    """One for a process. `committed` is called with each batch after its commit, in order.

    Who waits is woken at most every TICK_SECONDS, the more who wait the rarer: then one write carries many events.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._tail: deque[Event] = deque()
        self._tail_bytes = 0
        self._announced: Position = 0
        self._tick = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = 0.0
        self._waiting = 0
        self.closed = False

    def committed(self, events: Iterable[Event]) -> None:
        """Keep the newest events at hand, and wake who waits for them. Those at hand have no gap between them."""
        for event in events:
            if self._tail and event.position != self._tail[-1].position + 1:
                self._tail.clear()
                self._tail_bytes = 0
            self._tail.append(event)
            self._tail_bytes += len(event.data or b"")
        while len(self._tail) > TAIL_EVENTS or self._tail_bytes > TAIL_BYTES_MAX:
            self._tail_bytes -= len(self._tail.popleft().data or b"")
        if self._timer is None and self._tail:
            pause = max(TICK_SECONDS, self._waiting * TICK_SECONDS_PER_CLIENT)
            self._timer = asyncio.get_running_loop().call_at(self._ticked + pause, self._announce)

    def close(self) -> None:
        """Nobody waits any more."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._tick.set()

    def _announce(self) -> None:
        self._timer = None
        self._ticked = asyncio.get_running_loop().time()
        self._announced = self._tail[-1].position
        self._tick.set()
        self._tick = asyncio.Event()

    async def begin(self, since: str) -> Cursor:
        """Where to begin: `now`, a position, or a cursor, checked against this log.

        Raises Malformed for what is none, InTheFuture, and Diverged for a cursor of another history.
        """
        tip = await self._log.tip()
        if since == "now":
            return Cursor.of(tip.position, tip.hash)
        cursor = Cursor.read(since)
        if cursor.position > tip.position:
            if cursor.tag and await self._log.holes():
                raise await self._diverged(cursor)
            raise InTheFuture(cursor, tip)
        mine = await self._hash_at(cursor.position)
        if mine is None:
            raise await self._diverged(cursor)
        if cursor.tag and mine.hex()[:TAG_DIGITS] != cursor.tag:
            raise await self._diverged(cursor)
        return Cursor.of(cursor.position, mine)

    async def page(
        self,
        after: Cursor,
        wanted: Filter = EVERYTHING,
        limit: int = PAGE_EVENTS_MAX,
        bytes_max: int = PAGE_BYTES_MAX,
    ) -> Page:
        """What comes after a cursor, `limit` events and `bytes_max` bytes at most, one event at least; empty at the tip."""
        near = self._near(after.position)
        if near is not None:
            looked_at = near[:limit] if wanted == EVERYTHING else _looked_at(near, wanted, limit)
            looked_at = _within_bytes(looked_at, bytes_max)
            return Page([event for event in looked_at if wanted.matches(event)], _after(looked_at, after))
        if wanted == EVERYTHING:
            found = await self._log.events(Span(after.position, limit=limit, bytes_max=bytes_max))
            return Page(found, _after(found, after))
        return await self._filtered_page(after, wanted, limit, bytes_max)

    async def _filtered_page(self, after: Cursor, wanted: Filter, limit: int, bytes_max: int) -> Page:
        """By the log's own index; when nothing more matches, the cursor is at the tip that was seen before."""
        tip = await self._log.tip()
        span = Span(after.position, tip.position, wanted.type, wanted.id, limit=limit, bytes_max=bytes_max)
        found = await self._log.events(span)
        if len(found) == limit or bytes_of(found) >= bytes_max:
            return Page(found, _after(found, after))
        return Page(found, Cursor.of(tip.position, tip.hash) if tip.position > after.position else after)

    async def wait(self, after: Cursor, seconds: float) -> bool:
        """Until there is an event after the cursor; False when there was none for so long, or the feed is closed."""
        if after.position >= self._announced and not self.closed:
            self._waiting += 1
            try:
                async with asyncio.timeout(seconds):
                    await self._tick.wait()
            except TimeoutError:
                return False
            finally:
                self._waiting -= 1
        return not self.closed

    def recent(self, after: Position, limit: int) -> list[Event] | None:
        """The events after a position, from memory; None when memory does not go back that far."""
        near = self._near(after)
        return near[:limit] if near is not None else None

    def _near(self, after: Position) -> list[Event] | None:
        """All events after a position, from memory; None when memory does not go back that far."""
        if not self._tail or after < self._tail[0].position - 1:
            return None
        newest = list(islice(reversed(self._tail), max(0, self._tail[-1].position - after)))
        newest.reverse()
        return newest

    async def _hash_at(self, position: Position) -> bytes | None:
        if position == 0:
            return self._log.genesis
        event = await self._log.at(position)
        return event.hash if event is not None else None

    async def _diverged(self, cursor: Cursor) -> Diverged:
        """Say where the histories part: at the start of the first hole that the cursor had passed."""
        holes = [after for after, _ in await self._log.holes() if after < cursor.position]
        fork = min(holes) if holes else None
        where = f"they part after position {fork}" if fork is not None else "it is of another log"
        return Diverged(
            f"the cursor {cursor} is of another history; {where}. "
            f"Read again what you keep, or go on with since={fork or 0} and take what follows as the truth",
            fork,
        )


def _looked_at(events: Iterable[Event], wanted: Filter, limit: int) -> list[Event]:
    """The events up to the one with which so many match."""
    looked_at: list[Event] = []
    for event in events:
        looked_at.append(event)
        limit -= wanted.matches(event)
        if limit == 0:
            break
    return looked_at


def _after(looked_at: Sequence[Event], before: Cursor) -> Cursor:
    return Cursor.of(looked_at[-1].position, looked_at[-1].hash) if looked_at else before


def _within_bytes(events: list[Event], bytes_max: int) -> list[Event]:
    """As many of the events as fit in a page, one at least."""
    size = 0
    for index, event in enumerate(events):
        size += len(event.data or b"")
        if size > bytes_max and index > 0:
            return events[:index]
    return events
