"""The publisher: follows the log and sends every event to the stream, which is its own checkpoint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import msgspec
import nats.errors

from eventstore.delivery.connect import Connect
from eventstore.delivery.fence import Fence
from eventstore.delivery.jetstream import (
    Ahead,
    Halted,
    JetStream,
    StreamSettings,
    check_version,
)
from eventstore.delivery.sender import Lost, Recent, Sender, Window, from_the_log
from eventstore.errors import QuireError
from eventstore.event import Position
from eventstore.follower import Reached
from eventstore.log.base import EventLog
from eventstore.membership import Lease, ended

BACK_OFF_SECONDS_MIN = 0.05
BACK_OFF_SECONDS_MAX = 2.0
HALTED_SECONDS = 5.0
"""How often a halted publisher looks whether what was wrong was put right."""
STOP_SECONDS_MAX = 0.5

_log = logging.getLogger("quire.publisher")


def _nobody(_why: str) -> None:
    """For who does not append, and for brokers that are not ours."""


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
        recent: Recent = from_the_log,
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
