"""A log filled directly, a publisher on it, and what the stream then holds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from eventstore.delivery.connect import connecting
from eventstore.delivery.connection import Connection
from eventstore.delivery.nats import Publisher, Status
from eventstore.event import Context, Event, Header, Tip, encode_context, seal
from eventstore.log.base import EventLog
from eventstore.projection import Rows
from eventstore.server.broker import Broker

DEADLINE_SECONDS = 20.0
POLL_SECONDS = 0.01


class Filler:
    """Appends to a log, and lets followers wait for what it appended."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self._moved = asyncio.Event()

    async def append(
        self, *resources: tuple[str, str, str], body: bytes = b'{"n":1}', context: Context = Context()
    ) -> list[Event]:
        """Append an event for each (type, id, action)."""
        await self.log.take()
        snapshot = await self.log.look()
        tip, events = snapshot.tip, []
        for type, id, action in resources:
            made = _event(tip, type, id, action, body, context)
            tip = Tip(made.position, made.at, made.hash)
            events.append(made)
        await self.log.append(events, Rows())
        self._moved.set()
        self._moved = asyncio.Event()
        return events

    async def fill(self, count: int, body: bytes = b'{"n":1}') -> list[Event]:
        """Append `count` events over a handful of resources."""
        return await self.append(*(("Thing", f"r{n % 7}", "updated") for n in range(count)), body=body)

    async def reached(self, position: int) -> None:
        """What a writer has for its followers."""
        while (await self.log.tip()).position < position:
            await self._moved.wait()


def _event(tip: Tip, type: str, id: str, action: str, body: bytes, context: Context) -> Event:
    position = tip.position + 1
    header = Header(
        position, type, id, action, "2026-01-01T00:00:00.000Z", position, 0, "PUT", f"{type}/{id}"
    )
    data = None if action == "deleted" else body
    return seal(header, data, encode_context(context), os.urandom(16), tip.hash)


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = DEADLINE_SECONDS) -> Any:
    """Poll a condition until it answers something true, and answer that."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):
            await asyncio.sleep(POLL_SECONDS)
        return found


async def published(
    publisher: Publisher, log: EventLog, seconds: float = DEADLINE_SECONDS, *, was_halted: bool = False
) -> Status:
    """Wait until everything in the log was acknowledged. Fails at once when the publisher halts, unless it had."""

    async def done() -> Status | None:
        status = await publisher.status()
        assert was_halted or status.state != "halted", status
        return status if status.state == "publishing" and status.lag_events == 0 else None

    return await until(done, seconds)


async def halted(publisher: Publisher) -> Status:
    """Wait until the publisher has halted."""

    async def done() -> Status | None:
        status = await publisher.status()
        return status if status.state == "halted" else None

    return await until(done)


@asynccontextmanager
async def publishing(filler: Filler, broker: Broker, **options: Any) -> AsyncIterator[Publisher]:
    """A publisher of the log on the broker."""
    connect = connecting(broker.url, **broker.publisher_options)
    publisher = Publisher(filler.log, filler.reached, connect=connect, **options)
    publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


async def _quiet(_error: Exception) -> None:
    """Tests ask for what they want to know."""


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Client]:
    """A client; nobody in particular unless told. Of a cluster any server. What fails to connect is closed as well."""
    client = Connection()
    try:
        await client.connect(url.split(","), **{"error_cb": _quiet, **options})
        yield client
    finally:
        await client.end()


@asynccontextmanager
async def stream_of(url: str, seconds: float = 5) -> AsyncIterator[tuple[JetStreamContext, str]]:
    """JetStream, and the name of the stream that takes in our subjects. Raises nats-py's errors when there is none."""
    async with connected(url, allow_reconnect=False, connect_timeout=1) as client:
        js = client.jetstream(timeout=seconds)
        yield js, await js.find_stream_name_by_subject("quire.>")


async def stored(url: str, subject: str = "quire.>", **options: Any) -> list[Msg]:
    """Every message that the stream has on a subject, as an anonymous ordered consumer sees it."""
    async with connected(url, **options) as client:
        js = client.jetstream()
        subscription = await js.subscribe(subject, ordered_consumer=True)
        info = await subscription.consumer_info()
        count = (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)
        found = [await subscription.next_msg(timeout=5) for _ in range(count)]
        await subscription.unsubscribe()
        return found


def sequence(message: Msg) -> int:
    """Its place in the stream."""
    return message.metadata.sequence.stream
