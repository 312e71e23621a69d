"""The publisher: follows the log and sends every event to the stream, which is its own checkpoint."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Literal, Self

import msgspec
import nats.errors
from nats.aio.subscription import Subscription

from eventstore.delivery.connect import Connect
from eventstore.delivery.connection import Connection, wire
from eventstore.delivery.fence import Fence, Opened, hole_at
from eventstore.delivery.jetstream import (
    WINDOW_MESSAGES_MAX,
    Ahead,
    Halted,
    JetStream,
    StreamSettings,
    check_version,
)
from eventstore.delivery.message import Composer, Message
from eventstore.errors import NotYet, QuireError
from eventstore.event import Event, Position
from eventstore.follower import Reached
from eventstore.log.base import EventLog, Span
from eventstore.membership import Lease, ended

WINDOW_BYTES_MAX = 4 * 1024 * 1024
CHUNK_EVENTS = 512
CHUNK_BYTES = 8 * 1024 * 1024
BURST_SECONDS = 0.01
"""Between the beginnings of two bursts, at least: many events go out, and are acknowledged, in one."""
ACKNOWLEDGE_SECONDS_MAX = 5.0
"""How long nothing may be acknowledged while something is in flight."""
LOOK_SECONDS = 0.1
BACK_OFF_SECONDS_MIN = 0.05
BACK_OFF_SECONDS_MAX = 2.0
HALTED_SECONDS = 5.0
"""How often a halted publisher looks whether what was wrong was put right."""
STOP_SECONDS_MAX = 0.5

_log = logging.getLogger("quire.publisher")


Recent = Callable[[Position, int], list[Event]]
"""The events after a position that are at hand in memory, so many at most; none when they have to be read."""


def _nobody(_why: str) -> None:
    """For who does not append, and for brokers that are not ours."""


def _from_the_log(_after: Position, _limit: int) -> list[Event]:
    """For who has none in memory."""
    return []


class Lost(Exception):
    """What became of the messages in flight is not known: read the stream's tip again."""


class Status(msgspec.Struct, frozen=True):
    """How the publisher stands."""

    state: Literal["starting", "publishing", "away", "halted", "elsewhere"]
    """Away: the broker cannot be reached or refuses, and is tried again. Halted: somebody has to put something right.
    Elsewhere: another node publishes."""
    reason: str
    remedy: str
    differs_at: Position | None
    """Where stream and log part, when that is why it halted."""
    position: Position
    """The last that the stream has acknowledged."""
    lag_events: int
    stream: str
    generation: int
    owner: str = ""
    """The node that publishes; empty when none is known to."""


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
        self, client: Connection, log: EventLog, opened: Opened, base_url: str, recent: Recent = _from_the_log
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
        if until is None and (near := self._recent(after, CHUNK_EVENTS)):
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


class Publisher:
    """Publishes a log. Who publishes, and how often it is killed, is one to the stream: it takes each position once."""

    def __init__(
        self,
        log: EventLog,
        reached: Reached,
        *,
        connect: Connect,
        lease: Lease | None = None,
        stream: StreamSettings = StreamSettings(),  # noqa: B008 - frozen
        base_url: str = "",
        recent: Recent = _from_the_log,
        hold: Callable[[str], None] = _nobody,
        stuck: Callable[[str], None] = _nobody,
    ) -> None:
        """`base_url` is where clients read resources, for the references to large bodies. Raises Invalid.

        Without a `lease` nobody else publishes to the stream. Who does not hold it compares log and stream, and waits.

        `hold` is told why nothing may be appended to the log, when the stream is ahead of it, and "" when they were
        compared and nothing is to be said against it. `stuck` is told why a broker takes nothing any more.
        """
        stream.check()
        self._events = log
        self._reached = reached
        self._connect = connect
        self._lease = lease or Lease(stream.name, held=True)
        self._lease.where = self._acknowledged
        self._settings = stream
        self._base_url = base_url
        self._recent = recent
        self._hold = hold
        self._stuck = stuck
        self._status = Status("starting", "", "", None, 0, 0, stream.name, 0)
        self._window: Window | None = None
        self._erased: set[Position] = set()
        self._again = asyncio.Event()
        self._looked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Publish in the background until `stop`; whether there is a broker is found out there."""
        self._task = asyncio.create_task(self._run(), name="quire-publisher")

    async def compared(self) -> None:
        """Wait until log and stream were compared once, or the broker was found to be away."""
        await self._looked.wait()

    async def stop(self) -> None:
        """Publish what the log has, for STOP_SECONDS_MAX at most, and end."""
        if self._task is None:
            return
        with suppress(TimeoutError, QuireError):
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await self._finish()
        await ended(self._task)

    def look_again(self) -> None:
        """Try now what would be tried later: something was put right."""
        self._again.set()

    @property
    def position(self) -> Position:
        """The last position that the stream has acknowledged, to whoever publishes."""
        return self._lease.position if self._status.state == "elsewhere" else self._acknowledged()

    def _acknowledged(self) -> Position:
        return self._window.acknowledged if self._window is not None else self._status.position

    async def status(self) -> Status:
        """How it stands now. Raises Unavailable when the log cannot be read."""
        tip = await self._events.tip()
        lag = max(0, tip.position - self.position)
        return msgspec.structs.replace(
            self._status, position=self.position, lag_events=lag, owner=self._lease.owner
        )

    async def _finish(self) -> None:
        tip = await self._events.tip()
        if self._window is not None and self._status.state == "publishing":
            await self._window.reached(tip.position)

    async def _run(self) -> None:
        pause = BACK_OFF_SECONDS_MIN
        while True:
            before = self.position
            try:
                await self._session()
                self._tell(state="elsewhere")
                await self._lease.until(held=True)
                pause = BACK_OFF_SECONDS_MIN
                continue
            except Halted as halted:
                self._hold(str(halted) if isinstance(halted, Ahead) else "")
                self._tell(
                    state="halted", reason=halted.reason, remedy=halted.remedy, differs_at=halted.position
                )
                pause = HALTED_SECONDS
            except Exception as error:
                self._away(error)
                progress = self.position > before
                pause = BACK_OFF_SECONDS_MIN if progress else min(2 * pause, BACK_OFF_SECONDS_MAX)
                if pause >= BACK_OFF_SECONDS_MAX and isinstance(error, Lost):
                    self._stuck(str(error))
            self._looked.set()
            await self._wait(pause)

    async def _session(self) -> None:
        """Connect, look at the stream, and send until something is not as it should be, or it is another node's turn."""
        client = await self._connect()
        try:
            check_version(client)
            fence = Fence(JetStream(client), self._events, self._settings)
            opened = await fence.open(self._erased)
            self._hold("")
            self._looked.set()
            if not self._lease.held:
                return
            sender = Sender(client, self._events, opened, self._base_url, self._recent)
            self._window = sender.window
            self._tell(state="publishing", stream=opened.name, generation=opened.generation)
            await self._lease.during(sender.follow(self._reached))
        finally:
            await client.end()

    async def _wait(self, seconds: float) -> None:
        self._again.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._again.wait()

    def _away(self, error: Exception) -> None:
        expected = isinstance(error, QuireError | Lost | OSError | TimeoutError | nats.errors.Error)
        if not expected:
            _log.error("the publisher failed and tries again", exc_info=error)
        self._tell(state="away", reason=str(error) or type(error).__name__)

    def _tell(self, **changes: Any) -> None:
        """Note how it stands, and log it when that is news."""
        before = self._status
        fresh: dict[str, Any] = {"reason": "", "remedy": "", "differs_at": None, **changes}
        self._status = now = msgspec.structs.replace(before, **fresh)
        if now != before:
            level = logging.INFO if now.state == "publishing" else logging.WARNING
            told = {name: value for name, value in msgspec.structs.asdict(now).items() if value}
            _log.log(level, "publisher %s", now.state, extra={**told, "position": self.position})
