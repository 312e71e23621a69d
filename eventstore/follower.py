"""The one loop that follows the log: read what is after the checkpoint, hand it on, wait for more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from eventstore.errors import Unavailable
from eventstore.event import Event, Position
from eventstore.log.base import EventLog, Span

CHUNK_EVENTS = 1000
CHUNK_BYTES = 16 * 1024 * 1024
AGAIN_SECONDS = 0.5
"""After so long what the storage refused is tried again."""

Handle = Callable[[Position, Sequence[Event]], Awaitable[Position]]
"""Takes the checkpoint and the events after it; does its work and answers the new checkpoint."""
Reached = Callable[[Position], Awaitable[None]]
"""Waits until the log is at a position."""

_log = logging.getLogger("quire.follower")


class Follower:
    """Hands every event after `after` on, once and in order, as long as it runs."""

    def __init__(self, log: EventLog, name: str, after: Position, handle: Handle, reached: Reached) -> None:
        self.name = name
        self.position = after
        self._log = log
        self._handle = handle
        self._reached = reached
        self._task: asyncio.Task[None] | None = None

    async def catch_up(self) -> None:
        """Hand on everything there is now."""
        while events := await self._log.events(self._next()):
            self.position = await self._handle(self.position, events)

    def _next(self) -> Span:
        return Span(self.position, limit=CHUNK_EVENTS, bytes_max=CHUNK_BYTES)

    def start(self) -> None:
        """Go on in the background until `stop`."""
        self._task = asyncio.create_task(self._run(), name=f"quire-follower-{self.name}")

    async def stop(self) -> None:
        """End after the chunk in hand. Raises what ended the follower before, if anything did."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    async def _run(self) -> None:
        while True:
            try:
                await self.catch_up()
            except Unavailable as error:
                _log.warning(
                    "a follower waits for the storage", extra={"follower": self.name, "why": str(error)}
                )
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                await self._reached(self.position + 1)
