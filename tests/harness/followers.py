"""Clients of the feed and of the stream that come back where they were, and keep everything that they get."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

import aiohttp
import nats.errors
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy

from harness.record import Delivered, Followed, Frame, Record
from harness.sse import frames
from harness.stream import connected
from harness.tasks import ended

LOOK_SECONDS = 0.02
POLL_SECONDS = 0.001
FRAME_BYTES_MAX = 8 * 1024 * 1024
"""Of one line; aiohttp takes half a mebibyte when nothing is said."""
LEAVE_CHANCE = 0.002
"""Of leaving after a frame, to come back with its cursor."""
SILENCE_SECONDS = 2.0
"""After so long without a message the consumer of the stream looks whether it is still there."""
_FORK = re.compile(r"go on with since=(\d+)")


class FeedFollower:
    """One client of server-sent events. It comes back with Last-Event-ID, sometimes with `since`, to any node."""

    def __init__(self, urls: Sequence[str], random: Random, followed: Followed) -> None:
        self.followed = followed
        self._urls = urls
        self._random = random
        self.pause_seconds = LOOK_SECONDS
        self.restored = False
        """Whether the log may be behind what it was told."""
        self._cursor = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            await ended(self._task)
            if not self._task.cancelled():
                self._task.result()

    async def _run(self) -> None:
        parts = (self.followed.type, self.followed.id, "_changes")
        path = "".join(f"/{part}" for part in parts if part)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout, read_bufsize=FRAME_BYTES_MAX) as session:
            while True:
                with suppress(aiohttp.ClientError, ConnectionError):
                    await self._connect(session, self._random.choice(self._urls) + path)
                await asyncio.sleep(self.pause_seconds)

    async def _connect(self, session: aiohttp.ClientSession, path: str) -> None:
        headers = {"Accept": "text/event-stream"}
        if self._cursor and self._random.random() < 0.2:
            path += f"?since={self._cursor}"
        elif self._cursor:
            path += "?since=0"  # as a browser does: its first URL, and where it was in the header
            headers["Last-Event-ID"] = self._cursor
        else:
            path += f"?since={self.followed.after}"
        async with session.get(path, headers=headers) as response:
            if response.status in (404, 503):  # the type is not there yet; the server stops
                return
            if response.status == 410 and (fork := _FORK.search(await response.text())):
                self.followed.goes_back(int(fork[1]))
                self._cursor = fork[1]
                return
            if response.status == 400 and self.restored:
                return  # the log is behind its cursor, and nobody has begun an epoch yet
            if response.status != 200:
                self.followed.problems.append(f"{path}: {response.status} {await response.text()}")
                return
            self.followed.connections += 1
            async for frame in frames(response):
                self._cursor = frame.id
                if frame.event != "bookmark":
                    self.followed.frames.append(_frame(frame.id, frame.event, frame.data))
                if self._random.random() < LEAVE_CHANCE:
                    return


class Poller(FeedFollower):
    """One that asks for page after page, without a pause worth the name."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.pause_seconds = POLL_SECONDS

    async def _connect(self, session: aiohttp.ClientSession, path: str) -> None:
        async with session.get(f"{path}?since={self._cursor or 0}&_count=1000") as response:
            if response.status != 200:
                return
            page = await response.json()
        self._cursor = page["cursor"]
        for event in page["events"]:
            tag, action = event["hash"][:8], event["type"].rpartition(".")[2]
            self.followed.frames.append(_frame(f"{event['position']}.{tag}", action, event))


def _frame(cursor: str, action: str, event: dict[str, object]) -> Frame:
    position, _, tag = cursor.partition(".")
    data = event.get("data")
    assert event["position"] == int(position)
    return Frame(
        int(position),
        tag,
        action,
        str(event["subject"]),
        str(event["hash"]),
        data if isinstance(data, dict) else None,
    )


class StreamFollower:
    """A consumer of the stream with a connection of its own, which asks for the sequence after its last."""

    def __init__(self, url: str, record: Record) -> None:
        self._url = url
        self._delivered = record.delivered
        self._task: asyncio.Task[None] | None = None

    @property
    def position(self) -> int:
        return self._delivered[-1].sequence if self._delivered else 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            await ended(self._task)
            if not self._task.cancelled():
                self._task.result()

    async def _run(self) -> None:
        while True:
            with suppress(nats.errors.Error, OSError, TimeoutError, asyncio.InvalidStateError):
                await self._consume()
            await asyncio.sleep(LOOK_SECONDS)

    async def _consume(self) -> None:
        once = {"allow_reconnect": False, "max_reconnect_attempts": 1, "connect_timeout": 1}
        async with connected(self._url, **once) as client:
            config = ConsumerConfig(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self.position + 1
            )
            js = client.jetstream(timeout=2)
            subscription = await js.subscribe("quire.>", ordered_consumer=True, config=config)
            while client.is_connected:
                with suppress(TimeoutError, nats.errors.TimeoutError):
                    message = await subscription.next_msg(timeout=SILENCE_SECONDS)
                    self._delivered.append(delivered(message))
                    continue
                name = await js.find_stream_name_by_subject("quire.>")
                if (await js.stream_info(name)).state.last_seq > self.position:
                    return


def delivered(message: Msg) -> Delivered:
    """A message as it is kept."""
    headers = message.headers or {}
    return Delivered(
        message.metadata.sequence.stream,
        headers.get("Quire-Position", ""),
        headers.get("Quire-Hash", ""),
        message.subject,
        message.data,
        headers.get("Quire-Body-Digest", ""),
    )
