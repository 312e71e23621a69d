"""The feed over HTTP: pages, long-polls and server-sent events at `/_changes` and `/T/_changes`, and `$changes` live."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from eventstore.delivery import cloudevent
from eventstore.errors import Throttled
from eventstore.event import Event
from eventstore.feed import PAGE_EVENTS_MAX, Cursor, Feed, Filter
from eventstore.server.bundles import body_of
from eventstore.server.call import Answer, Call, Streamed, answer, ignored_header
from eventstore.server.negotiation import number, wants_stream

WAIT_SECONDS_MAX = 60
HEARTBEAT_SECONDS = 15.0
BOOKMARK_SECONDS = 30.0
RETRY_MILLISECONDS = 2000
CHUNK_BYTES = 64 * 1024
STREAM_PAGE_BYTES = 256 * 1024
"""What a client of server-sent events is served from: held as long as it does not take it, so less than a page."""
CLIENTS_MAX = 4096
CLIENTS_OF_ONE_ADDRESS_MAX = 1024
FRAMES_KEPT = 4096
FRAME_BYTES_KEPT = 16 * 1024
EVENT_STREAM = "text/event-stream"

Frame = Callable[[Event], bytes]


class Feeds:
    """The clients of one process's feed: who listens, and the frames that many of them are sent."""

    def __init__(self, feed: Feed, log_id: str) -> None:
        self.feed = feed
        self.log_id = log_id
        self._streams: dict[str, set[Call]] = {}
        """By address, those that are under way."""
        self._frames: OrderedDict[int, bytes] = OrderedDict()

    @property
    def clients(self) -> int:
        """How many follow."""
        return sum(map(len, self._streams.values()))

    async def changes(self, call: Call) -> Answer | Streamed:
        """`/_changes`, `/T/_changes` and `/T/id/_changes`."""
        call.only("GET", "HEAD")
        ignored = call.unknown("since", "wait", "_count")
        wanted = await self._filter(call)
        cursor = await call.store.follow(self._since(call, "since"))
        if wants_stream(call.header("accept") or "") and call.request.method == "GET":
            return self._stream(call, cursor, wanted, self._frame)
        return await self._page(call, cursor, wanted, ignored_header(ignored))

    async def live(self, call: Call) -> Streamed:
        """`$changes` as server-sent events: what polling answers, one change a frame."""
        call.only("GET")
        call.unknown("version")
        wanted = await self._filter(call)
        cursor = await call.store.follow(self._since(call, "version"))
        return self._stream(call, cursor, wanted, None)

    async def _filter(self, call: Call) -> Filter:
        if call.route.type:
            await call.store.kind(call.route.type)
        return Filter(call.route.type or None, call.route.id or None)

    def _since(self, call: Call, parameter: str) -> str:
        """Last-Event-ID before the parameter: a browser that reconnects keeps its first URL."""
        return (
            call.header("last-event-id")
            or call.query.get(parameter)
            or ("now" if parameter == "version" else "0")
        )

    async def _page(self, call: Call, cursor: Cursor, wanted: Filter, headers: Mapping[str, str]) -> Answer:
        limit = max(1, number(call.query, "_count", 100, PAGE_EVENTS_MAX))
        wait = number(call.query, "wait", 0, WAIT_SECONDS_MAX)
        page = await self.feed.page(cursor, wanted, limit)
        end = time.monotonic() + wait
        while (
            not page.events
            and (left := end - time.monotonic()) > 0
            and await self.feed.wait(page.cursor, left)
        ):
            page = await self.feed.page(page.cursor, wanted, limit)
        told = {
            "cursor": str(page.cursor),
            "events": [cloud_event(event, self.log_id) for event in page.events],
        }
        return answer(
            told,
            headers={
                **headers,
                "X-Log-Position": str(page.cursor.position),
                "Cache-Control": "no-store",
            },
            fhir=False,
        )

    def _stream(self, call: Call, cursor: Cursor, wanted: Filter, frame: Frame | None) -> Streamed:
        address = call.request.remote or ""
        if self._is_full(address):
            self._end_the_left()
        if self._is_full(address):
            raise Throttled(
                f"{self.clients} clients follow the feed, {len(self._streams.get(address, ()))} of them from {address}; "
                f"at most {CLIENTS_MAX} may, {CLIENTS_OF_ONE_ADDRESS_MAX} from one address",
                retry_after_seconds=5,
            )
        return Streamed(EVENT_STREAM, self._chunks(call, address, cursor, wanted, frame))

    def _is_full(self, address: str) -> bool:
        own = len(self._streams.get(address, ()))
        return self.clients >= CLIENTS_MAX or own >= CLIENTS_OF_ONE_ADDRESS_MAX

    def _end_the_left(self) -> None:
        """Make room: a stream whose client has gone would notice at its next frame, a heartbeat later at most."""
        for address, calls in list(self._streams.items()):
            for call in [call for call in calls if call.request.is_abandoned]:
                self._forget(address, call)
                call.request.cancel()

    def _forget(self, address: str, call: Call) -> None:
        calls = self._streams.get(address, set())
        calls.discard(call)
        if not calls:
            self._streams.pop(address, None)

    @contextmanager
    def _counted(self, address: str, call: Call) -> Iterator[None]:
        self._streams.setdefault(address, set()).add(call)
        try:
            yield
        finally:
            self._forget(address, call)

    async def _chunks(
        self, call: Call, address: str, cursor: Cursor, wanted: Filter, frame: Frame | None
    ) -> AsyncIterator[bytes]:
        """What a client is sent, as fast as it takes it: it holds a cursor and STREAM_PAGE_BYTES, no more."""
        with self._counted(address, call):
            pause = RETRY_MILLISECONDS + random.randrange(RETRY_MILLISECONDS)
            yield b"id: %b\nretry: %d\n\n" % (str(cursor).encode(), pause)
            told, heard = cursor, time.monotonic()
            while not self.feed.closed:
                page = await self.feed.page(cursor, wanted, bytes_max=STREAM_PAGE_BYTES)
                cursor = page.cursor
                async for chunk in self._framed(call, page.events, frame):
                    yield chunk
                if page.events:
                    told, heard = cursor, time.monotonic()
                elif cursor != told and time.monotonic() - heard > BOOKMARK_SECONDS:
                    yield bookmark(cursor)
                    told, heard = cursor, time.monotonic()
                elif not await self.feed.wait(cursor, HEARTBEAT_SECONDS) and not self.feed.closed:
                    yield b":\n\n"

    async def _framed(self, call: Call, events: Sequence[Event], frame: Frame | None) -> AsyncIterator[bytes]:
        parts: list[bytes] = []
        size = 0
        for event in events:
            part = frame(event) if frame is not None else await self._change(call, event)
            parts.append(part)
            size += len(part)
            if size > CHUNK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
        if parts:
            yield b"".join(parts)

    def _frame(self, event: Event) -> bytes:
        """An event's frame, made once for all who follow closely."""
        made = self._frames.get(event.position)
        if made is None:
            made = sse(event.action, Cursor.of(event.position, event.hash), cloud_event(event, self.log_id))
            if len(made) <= FRAME_BYTES_KEPT:
                self._frames[event.position] = made
            if len(self._frames) > FRAMES_KEPT:
                self._frames.popitem(last=False)
        return made

    async def _change(self, call: Call, event: Event) -> bytes:
        """A frame of `$changes`; for a delete it has the last body, as polling has."""
        last = {}
        if event.data is None:
            last = await call.store.log.before([(event.type, event.id, event.position)], bodies=True)
        told = {"event": event.action, "resource": msgspec.Raw(body_of(event, last))}
        return sse(event.action, Cursor.of(event.position, event.hash), told)


def sse(kind: str, cursor: Cursor, data: Any) -> bytes:
    """One server-sent event. JSON has no line breaks of its own."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        str(cursor).encode(),
        kind.encode(),
        msgspec.json.encode(data),
    )


def bookmark(cursor: Cursor) -> bytes:
    """Nothing happened that you want; this is how far we looked."""
    return sse("bookmark", cursor, {"cursor": str(cursor)})


def cloud_event(event: Event, log_id: str) -> dict[str, Any]:
    """An event as CloudEvents 1.0 JSON."""
    told: dict[str, Any] = {
        "specversion": cloudevent.VERSION,
        "id": cloudevent.id(log_id, event.position),
        "source": cloudevent.source(log_id),
        "type": cloudevent.type(event.type, event.action),
        "subject": cloudevent.subject(event.type, event.id),
        "time": event.at,
        "sequence": cloudevent.sequence(event.position),
        "position": event.position,
        "transaction": event.transaction,
        "hash": event.hash.hex(),
    }
    if event.data is not None:
        told["datacontenttype"] = cloudevent.CONTENT_TYPE
        told["data"] = msgspec.Raw(event.data)
    return told
