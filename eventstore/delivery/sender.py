"""The sender: events on their way to the stream, a window of them at a time, in order or not at all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

import msgspec
from nats.aio.subscription import Subscription

from eventstore.delivery.connection import Connection, wire
from eventstore.delivery.fence import Opened, hole_at
from eventstore.delivery.jetstream import WINDOW_MESSAGES_MAX, Halted
from eventstore.delivery.message import Composer, Message
from eventstore.errors import NotYet
from eventstore.event import Event, Position
from eventstore.follower import Reached
from eventstore.log.base import EventLog, Span
from eventstore.membership import ended

WINDOW_BYTES_MAX = 4 * 1024 * 1024
CHUNK_EVENTS = 512
CHUNK_BYTES = 8 * 1024 * 1024
BURST_SECONDS = 0.01
"""Between the beginnings of two bursts, at least: many events go out, and are acknowledged, in one."""
ACKNOWLEDGE_SECONDS_MAX = 5.0
"""How long nothing may be acknowledged while something is in flight."""
LOOK_SECONDS = 0.1

Recent = Callable[[Position, int], list[Event] | None]
"""The events after a position that are known of, so many at most; None when they have to be read from the log."""


def from_the_log(_after: Position, _limit: int) -> None:
    """For who has none in memory."""


class Lost(Exception):
    """What became of the messages in flight is not known: read the stream's tip again."""


class _PublishError(msgspec.Struct):
    description: str = ""
    err_code: int = 0


class _Acknowledgement(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    error: _PublishError | None = None


_acknowledgement = msgspec.json.Decoder(_Acknowledgement).decode


class Window:
    """What is sent and not yet acknowledged, on one connection. Any surprise loses all of it."""

    def __init__(self, client: Connection, stream: str, after: Position) -> None:
        self.sent = after
        self.acknowledged = after
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._client = client
        self._stream = stream
        self._inbox = client.new_inbox()
        self._sizes: deque[int] = deque()
        self._unsent: list[bytes] = []
        self._bytes = 0
        self._moved = asyncio.Event()
        self._moved_at = 0.0
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        self._subscription = await self._client.listen(self._inbox, self._answered)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._subscription is not None:
            with suppress(Exception):
                await self._subscription.unsubscribe()

    async def send(self, message: Message) -> None:
        """Send the message of the next position with the next `flush`, when there is room."""
        while len(self._sizes) >= WINDOW_MESSAGES_MAX or self._bytes >= WINDOW_BYTES_MAX:
            self.flush()
            await self._move()
        if self.lost.done():
            raise Lost(self.lost.result())
        if not self._sizes:
            self._moved_at = asyncio.get_running_loop().time()
        size = len(message.head) + len(message.payload)
        self._sizes.append(size)
        self._bytes += size
        self.sent += 1
        self._unsent.append(wire(message, self._inbox))

    def flush(self) -> None:
        """Write what was sent since the last time, in one go."""
        if self._unsent:
            self._client.write(b"".join(self._unsent))
            self._unsent.clear()

    async def reached(self, position: Position) -> None:
        """Wait until a position is acknowledged."""
        while self.acknowledged < position:
            await self._move()

    def look(self) -> None:
        """Give the window up when the connection is gone or nothing was acknowledged for too long."""
        if not self._client.is_connected:
            self._lose(f"the connection was lost: {self._client.last_error or 'closed by the broker'}")
        elif self._sizes and self._waited() > ACKNOWLEDGE_SECONDS_MAX:
            self._lose(f"nothing was acknowledged for {ACKNOWLEDGE_SECONDS_MAX} seconds")

    def _waited(self) -> float:
        return asyncio.get_running_loop().time() - self._moved_at

    async def _move(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def _answered(self, data: bytes) -> None:
        """Acknowledgements come in the order of what was sent: each must be the next position's."""
        if self.lost.done():
            return
        try:
            told = _acknowledgement(data)
        except msgspec.DecodeError:
            self._lose("JetStream does not answer; is it enabled for this account?")
            return
        if told.error is not None:
            self._lose(f"the broker refused it: {told.error.description} ({told.error.err_code})")
        elif told.seq != self.acknowledged + 1 or told.stream != self._stream:
            self._lose(f"{self.acknowledged + 1} was acknowledged as {told.seq} of {told.stream}")
        else:
            self.acknowledged += 1
            self._bytes -= self._sizes.popleft()
            self._moved_at = asyncio.get_running_loop().time()
            self._moved.set()

    def _lose(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)


class Sender:
    """Sends the log's events to a stream that the fence has opened. Raises Lost, or Halted for a log with a gap."""

    def __init__(
        self, client: Connection, log: EventLog, opened: Opened, base_url: str, recent: Recent = from_the_log
    ) -> None:
        self.window = Window(client, opened.name, opened.last)
        self._log = log
        self._recent = recent
        self._composer = Composer(log.id, opened.name, client.max_payload, base_url)

    async def follow(self, reached: Reached) -> None:
        """Send everything there is and everything that comes."""
        async with self.window:
            await self._watched(self._follow(reached))

    async def until(self, position: Position) -> None:
        """Send everything up to a position, and wait until it is acknowledged."""
        async with self.window:
            await self._watched(self._until(position))

    async def _follow(self, reached: Reached) -> None:
        loop = asyncio.get_running_loop()
        while True:
            next_burst = loop.time() + BURST_SECONDS
            await self._send_rest(None)
            with suppress(NotYet):
                await reached(self.window.sent + 1)
            await asyncio.sleep(max(0.0, next_burst - loop.time()))

    async def _until(self, position: Position) -> None:
        await self._send_rest(position)
        await self.window.reached(position)

    async def _send_rest(self, until: Position | None) -> None:
        while events := await self._next(until):
            for event in events:
                if event.position != self.window.sent + 1:
                    await self._fill(event.position - 1)
                await self.window.send(self._composer.message(event))
            self.window.flush()

    async def _next(self, until: Position | None) -> list[Event]:
        after = self.window.sent
        if until is None and (near := self._recent(after, CHUNK_EVENTS)) is not None:
            return near
        return await self._log.events(Span(after, until, limit=CHUNK_EVENTS, bytes_max=CHUNK_BYTES))

    async def _fill(self, until: Position) -> None:
        """Placeholders for positions that no event has; they must lie in a hole that an epoch left."""
        first = self.window.sent + 1
        hole = hole_at(await self._log.holes(), first)
        if hole is None or hole.until < until:
            raise Halted(
                f"the log has no event at position {first}", "find out why with `quire verify`", first
            )
        while self.window.sent < until:
            await self.window.send(self._composer.placeholder(self.window.sent + 1, hole))

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the work until it is done or the window is lost."""
        task, lost = asyncio.create_task(work), self.window.lost
        try:
            while not task.done():
                await asyncio.wait((task, lost), timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                self.window.look()
                if lost.done():
                    raise Lost(lost.result())
            task.result()
        finally:
            await ended(task)
