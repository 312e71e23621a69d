"""The stream as a whole: compare all of it with the log, and make the next generation from the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from eventstore.delivery import subject
from eventstore.delivery.connection import Connection
from eventstore.delivery.fence import EPOCH, REBUILD, Fence, hole_at
from eventstore.delivery.jetstream import (
    LOG,
    Consumer,
    Halted,
    Info,
    JetStream,
    StreamSettings,
)
from eventstore.delivery.message import difference
from eventstore.delivery.nats import BACK_OFF_SECONDS_MAX
from eventstore.delivery.sender import CHUNK_BYTES, CHUNK_EVENTS, Lost, Sender
from eventstore.errors import NotFound, Unavailable
from eventstore.event import Event, Position
from eventstore.log.base import EventLog, Hole, Span

TELL_MESSAGES = 1000
TELL_SECONDS = 0.2
TRIES_MAX = 10
"""Windows that a rebuild may lose one after the other without any progress."""

DEFAULTS = StreamSettings()

Progress = Callable[[Position], None]
"""Told, now and then, which position is done."""


class Difference(msgspec.Struct, frozen=True, rename="camel"):
    """The first place where stream and log are not the same."""

    position: Position
    what: str


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """What `check` saw."""

    stream: str
    generation: int
    first: Position
    """Of what the stream still holds; what was before was trimmed by its limits."""
    last: Position
    messages: int
    deleted: int
    placeholders: int
    """Messages at positions that no event has."""
    lag_events: int
    changes: list[str]
    """What of the stream's configuration somebody else has changed."""
    difference: Difference | None
    old: list[str]
    """Streams of earlier generations that are still there."""
    remedy: str
    """What to do when it is not whole."""

    @property
    def whole(self) -> bool:
        return not self.changes and self.difference is None


class Restart(msgspec.Struct, frozen=True, rename="camel"):
    """A durable consumer of the stream before, and where to make it anew on the one that is there now."""

    consumer: str
    filters: list[str]
    acknowledged: Position
    position: Position
    """`opt_start_seq`: after what it acknowledged, or where the histories part if that is before."""


class Rebuilt(msgspec.Struct, frozen=True, rename="camel"):
    """What a rebuild has made. `old` is the stream before, None when there was none."""

    stream: str
    generation: int
    last: Position
    old: str | None
    restarts: list[Restart]


def _untold(_position: Position) -> None:
    """For who wants no progress."""


async def check(
    client: Client, log: EventLog, settings: StreamSettings = DEFAULTS, progress: Progress = _untold
) -> Report:
    """Compare every message that the stream has with the log's event at its position.

    Raises NotFound when there is no stream, Halted when the one there is not this log's.
    """
    js = JetStream(client)
    fence = Fence(js, log, settings)
    info = await fence.find()
    if info is None:
        raise NotFound(f"no stream takes in {subject.EVERYTHING}; a publisher makes it when it starts")
    return await _report(js, log, fence, info, progress)


async def rebuild(
    client: Connection,
    log: EventLog,
    settings: StreamSettings = DEFAULTS,
    *,
    base_url: str = "",
    force: bool = False,
    progress: Progress = _untold,
) -> Rebuilt:
    """Publish the log as the stream's next generation, when the one there is not whole, or with `force`.

    May be ended at any point and run again: a stream that is whole as far as it goes is gone on with. Beside a running
    publisher both publish, and each position is taken once. Raises Halted for a stream that is ahead of the log or
    another log's, Unavailable when the broker does not take it.
    """
    js = JetStream(client)
    fence = Fence(js, log, settings)
    info, found = await fence.find(), None
    if info is not None:
        report = await _report(js, log, fence, info, _untold)
        if info.state.last_seq > (await log.tip()).position:
            where = report.difference.position if report.difference else None
            raise Halted(f"the stream {info.name} is ahead of the log", EPOCH, where)
        if force or not report.whole:
            await js.update(info, subjects=[subject.old(info.generation)])
            found = report.difference
    now = await _fill(client, fence, log, base_url, progress)
    before = [one for one in await fence.old() if one.generation == now.generation - 1]
    restarts = await _restarts(js, log, fence, before[0], found) if before else []
    old = before[0].name if before else None
    return Rebuilt(now.name, now.generation, now.state.last_seq, old, restarts)


async def remove_old(client: Client, log: EventLog, settings: StreamSettings = DEFAULTS) -> list[str]:
    """Delete the streams of earlier generations, with their consumers; their names."""
    js = JetStream(client)
    old = await Fence(js, log, settings).old()
    for info in old:
        await js.delete(info.name)
    return [info.name for info in old]


async def seen(client: Client, log: EventLog) -> Position:
    """The highest position that a stream of this log was ever given: an epoch must begin after it."""
    streams = await JetStream(client).streams()
    return max((info.state.last_seq for info in streams if info.metadata.get(LOG) == log.id), default=0)


async def _fill(client: Connection, fence: Fence, log: EventLog, base_url: str, progress: Progress) -> Info:
    """Publish up to where the log ends now, going on after every lost window that brought us further."""
    tip, tries = (await log.tip()).position, 0
    while True:
        opened = await fence.open(set())
        if opened.last >= tip:
            break
        sender = Sender(client, log, opened, base_url)
        try:
            await _tell(sender, tip, progress)
        except Lost as lost:
            tries = 0 if sender.window.acknowledged > opened.last else tries + 1
            if tries > TRIES_MAX:
                raise Unavailable(f"the stream {opened.name} does not take what it is sent: {lost}") from lost
            await asyncio.sleep(min(TELL_SECONDS * tries, BACK_OFF_SECONDS_MAX))
    progress(tip)
    return await JetStream(client).info(opened.name)


async def _tell(sender: Sender, tip: Position, progress: Progress) -> None:
    task = asyncio.create_task(sender.until(tip))
    try:
        while not (await asyncio.wait((task,), timeout=TELL_SECONDS))[0]:
            progress(sender.window.acknowledged)
        await task
    finally:
        task.cancel()


async def _restarts(
    js: JetStream, log: EventLog, fence: Fence, old: Info, found: Difference | None
) -> list[Restart]:
    durable = [one for one in await js.consumers(old.name) if one.durable]
    if durable and found is None:
        found = (await _report(js, log, fence, await js.info(old.name, deleted=True), _untold)).difference
    return [_restart(consumer, found) for consumer in durable]


def _restart(consumer: Consumer, found: Difference | None) -> Restart:
    one, many = consumer.config.get("filter_subject"), consumer.config.get("filter_subjects")
    after = consumer.ack_floor.stream_seq
    position = after + 1 if found is None else min(after + 1, found.position)
    return Restart(consumer.name, many or ([one] if one else []), after, position)


async def _report(js: JetStream, log: EventLog, fence: Fence, info: Info, progress: Progress) -> Report:
    info = await js.info(info.name, deleted=True)
    walk = _Walk(js, log, fence, info)
    found = await walk.difference(progress)
    state, tip = info.state, await log.tip()
    return Report(
        info.name, info.generation, state.first_seq, state.last_seq, state.messages, state.num_deleted,
        walk.placeholders, max(0, tip.position - state.last_seq), fence.changes(info), found,
        [one.name for one in await fence.old()], EPOCH if state.last_seq > tip.position else REBUILD,
    )  # fmt: skip


class _Walk:
    """Stream and log side by side, from the first message to the last there was at the beginning."""

    def __init__(self, js: JetStream, log: EventLog, fence: Fence, info: Info) -> None:
        self.placeholders = 0
        self._js = js
        self._log = log
        self._fence = fence
        self._info = info
        self._events = _Events(log, info.state.first_seq - 1)

    async def difference(self, progress: Progress) -> Difference | None:
        """The first place where they differ."""
        holes, expected = await self._log.holes(), self._info.state.first_seq
        async for message in self._js.messages(self._info, self._info.state.first_seq):
            sequence = message.metadata.sequence.stream
            if gap := await self._missing(expected, sequence):
                return gap
            if what := await self._differs(message, sequence, holes):
                return Difference(sequence, what)
            expected = sequence + 1
            if expected % TELL_MESSAGES == 0:
                progress(sequence)
        return await self._missing(expected, self._info.state.last_seq + 1)

    async def _differs(self, message: Msg, sequence: Position, holes: list[Hole]) -> str:
        if hole_at(holes, sequence) is not None:
            self.placeholders += 1
            return ""
        event = await self._events.at(sequence)
        if event is None:
            return "the log has no event there"
        return difference(event, message.subject, message.headers or {}, message.data)

    async def _missing(self, first: Position, until: Position) -> Difference | None:
        """The first of the positions from `first` to before `until` that should have had a message."""
        if first >= until:
            return None
        trimmed = (await self._js.info(self._info.name)).state.first_seq
        for position in range(max(first, trimmed), until):
            if not await self._fence.may_be_gone(position):
                return Difference(position, "the stream has no message there")
        return None


class _Events:
    """The log's events, asked for by ascending position."""

    def __init__(self, log: EventLog, after: Position) -> None:
        self._log = log
        self._after = after
        self._chunk: dict[Position, Event] = {}

    async def at(self, position: Position) -> Event | None:
        while self._after < position:
            span = Span(self._after, limit=CHUNK_EVENTS, bytes_max=CHUNK_BYTES)
            self._chunk = {event.position: event for event in await self._log.events(span)}
            if not self._chunk:
                break
            self._after = max(self._chunk)
        return self._chunk.get(position)
