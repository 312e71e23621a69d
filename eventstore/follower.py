"""The one loop that follows the log: read what is after the checkpoint, hand it on, wait for more, and never give up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from eventstore.errors import QuireError
from eventstore.event import Event, Position
from eventstore.log.base import EventLog, Span

CHUNK_EVENTS = 1000
CHUNK_BYTES = 16 * 1024 * 1024
BACK_OFF_SECONDS_MIN = 0.1
BACK_OFF_SECONDS_MAX = 30.0

State = Literal["stopped", "building", "following", "waiting", "halted", "elsewhere"]
"""Waiting: the storage or something else is away, and is tried again. Halted: at an event that cannot be handled.
Elsewhere: another node follows."""

Checkpoint = Callable[[], Awaitable[Position]]
"""Reads up to where everything is done."""
Handle = Callable[[Position, Sequence[Event]], Awaitable[Position]]
"""Takes the checkpoint and the events after it; does its work and answers where the checkpoint is then."""
Reached = Callable[[Position], Awaitable[None]]
"""Waits until the log is at a position."""

_log = logging.getLogger("quire.follower")


class Stuck(QuireError):
    """The event at `position` cannot be handled. `done` is the last one before it that was."""

    code = "exception"

    def __init__(self, reason: str, position: Position, done: Position) -> None:
        super().__init__(f"at position {position}: {reason}")
        self.reason = reason
        self.position = position
        self.done = done


class Lag(NamedTuple):
    """How far behind the tip: positions, and the age of the oldest event that is still to come."""

    events: int
    seconds: float


async def lag(log: EventLog, after: Position, now: str) -> Lag:
    """How far behind who has done everything up to `after` is; 0 and 0 at the tip."""
    tip = await log.tip()
    if tip.position <= after:
        return Lag(0, 0.0)
    (oldest,) = await log.events(Span(after, limit=1))
    return Lag(tip.position - after, max(0.0, _seconds(now) - _seconds(oldest.at)))


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


class Standing(msgspec.Struct, frozen=True, rename="camel"):
    """How a follower stands."""

    name: str
    state: str
    position: Position
    lag_events: int
    lag_seconds: float
    parked: int = 0
    """Events that it went on without."""
    halted_at: Position | None = None
    reason: str = ""
    owner: str = ""
    """The node that follows; empty when none does."""


class Follower:
    """Hands every event after the checkpoint on, in order, as long as it runs.

    What fails is tried again, after longer and longer pauses. `state` says how it is, `reason` why it does not go on,
    and `halted_at` at which event, when it is an event's fault.
    """

    def __init__(
        self, log: EventLog, name: str, checkpoint: Checkpoint, handle: Handle, reached: Reached
    ) -> None:
        self.name = name
        self.position: Position = 0
        self.state: State = "stopped"
        self.reason = ""
        self.halted_at: Position | None = None
        self._log = log
        self._checkpoint = checkpoint
        self._handle = handle
        self._reached = reached

    async def run(self) -> None:
        """Follow until it is cancelled; then the chunk in hand is done as a whole or not at all."""
        pause, failed_at = BACK_OFF_SECONDS_MIN, -1
        while True:
            try:
                self.position = await self._checkpoint()
                await self._catch_up()
                self.tell("following")
                await self._reached(self.position + 1)
            except Stuck as stuck:
                self.position = stuck.done
                self.tell("halted", stuck.reason, stuck.position)
            except Exception as error:
                self.wait(error)
            else:
                continue
            pause = (
                min(2 * pause, BACK_OFF_SECONDS_MAX) if self.position == failed_at else BACK_OFF_SECONDS_MIN
            )
            failed_at = self.position
            await asyncio.sleep(pause)

    async def _catch_up(self) -> None:
        """Hand on everything there is now."""
        while events := await self._log.events(
            Span(self.position, limit=CHUNK_EVENTS, bytes_max=CHUNK_BYTES)
        ):
            self.position = await self._handle(self.position, events)
            self.tell("following")

    def wait(self, error: Exception) -> None:
        """Note what is in the way for now."""
        unexpected = None if isinstance(error, QuireError) else error
        self.tell("waiting", f"{type(error).__name__}: {error}", error=unexpected)

    def tell(
        self,
        state: State,
        reason: str = "",
        halted_at: Position | None = None,
        error: Exception | None = None,
    ) -> None:
        """Note how it stands, and log it when that is news."""
        if (state, reason, halted_at) == (self.state, self.reason, self.halted_at):
            return
        was, self.state, self.reason, self.halted_at = self.state, state, reason, halted_at
        about = {"follower": self.name, "position": self.position, "reason": reason, "halted_at": halted_at}
        if state == "halted":
            _log.error("a follower halted at an event, and tries it again", extra=about)
        elif state == "waiting":
            _log.warning("a follower waits, and tries again", exc_info=error, extra=about)
        elif was in ("halted", "waiting"):
            _log.info("a follower goes on", extra={"follower": self.name, "position": self.position})
