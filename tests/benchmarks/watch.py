"""A load at a given rate while somebody listens, in a process of its own: how long a change takes to be delivered.

Two listeners: a JetStream consumer of the embedded broker, or many clients of server-sent events, some of which never
read. Clock and process are those of the load, so times of sending, of the answer and of delivery can be compared.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from time import perf_counter
from typing import Any

import msgspec
import nats
import uvloop
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy

from benchmarks.load import TICK_SECONDS, Plan, Result, Run, at

LAST_SECONDS_MAX = 10.0
"""For what was answered and not yet delivered, after the load."""
FRAME_BEGINS_BYTES_MAX = 40
"""The length of a chunk, and a position. An expression that looks at all of a frame takes a core for itself."""
_ID = b"id: "


class Watch(Plan, kw_only=True):
    """A load, and who listens: at the broker's port, or as clients of the feed."""

    nats_port: int = 0
    readers: int = 0
    deaf: int = 0


class Watched(msgspec.Struct, kw_only=True):
    """Times to delivery in ms."""

    load: Result
    deliveries: int
    missing: int
    """Changes that were answered, and that some listener did not get."""
    from_commit: tuple[float, float, float]
    """p50, p99 and the longest: from just before the commit (the event's own time). Empty times of the feed are 0."""
    from_answer: tuple[float, float, float]
    """From the answer to the writer; delivery may come first."""
    from_sending: tuple[float, float, float]
    """From when the write was due to be sent."""


class Listener:
    """What one listener got: positions, when, and the time that the event says."""

    def __init__(self) -> None:
        self.got: dict[int, float] = {}
        self.ages: list[float] = []


@asynccontextmanager
async def consuming(port: int) -> AsyncIterator[list[Listener]]:
    """An ordered JetStream consumer of everything new."""
    listener = Listener()

    async def note(message: Msg) -> None:
        moment = time.time()
        listener.got[message.metadata.sequence.stream] = perf_counter()
        written = (message.headers or {})["ce-time"].replace("Z", "+00:00")
        listener.ages.append(moment - datetime.fromisoformat(written).timestamp())

    client = await nats.connect(f"nats://127.0.0.1:{port}")
    try:
        new = ConsumerConfig(deliver_policy=DeliverPolicy.NEW)
        await client.jetstream().subscribe("quire.*.*.*", ordered_consumer=True, config=new, cb=note)
        yield [listener]
    finally:
        await client.close()


class Reader(asyncio.Protocol):
    """A client of server-sent events that reads as fast as it can."""

    def __init__(self, request: bytes) -> None:
        self.listener = Listener()
        self.request = request
        self.begun = asyncio.Event()
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        self.begun.set()
        *frames, self._rest = (self._rest + data).split(b"\n\n")
        for frame in frames:
            begins = frame.find(_ID, 0, FRAME_BEGINS_BYTES_MAX)
            if begins >= 0 and (ends := frame.find(b".", begins, begins + FRAME_BEGINS_BYTES_MAX)) > 0:
                self.listener.got.setdefault(int(frame[begins + len(_ID) : ends]), now)


@asynccontextmanager
async def reading(plan: Watch) -> AsyncIterator[list[Listener]]:
    """Clients of `/_changes`, and some more that never read; the load begins when all are served."""
    loop, where = asyncio.get_running_loop(), ("127.0.0.1", plan.port)
    request = f"GET /_changes?since=now HTTP/1.1\r\nHost: {where[0]}:{plan.port}\r\nAccept: text/event-stream\r\n\r\n"
    deaf = [socket.create_connection(where) for _ in range(plan.deaf)]
    for one in deaf:
        one.sendall(request.encode())
    readers = [Reader(request.encode()) for _ in range(plan.readers)]
    made = [await loop.create_connection(lambda one=reader: one, *where) for reader in readers]
    for reader in readers:
        await reader.begun.wait()
    try:
        yield [reader.listener for reader in readers]
    finally:
        for transport, _ in made:
            transport.close()
        for one in deaf:
            one.close()


async def main(plan: Watch) -> Watched:
    run = Run(plan)
    async with consuming(plan.nats_port) if plan.nats_port else reading(plan) as listeners:
        result = await run.go()
        last = perf_counter() + LAST_SECONDS_MAX
        while perf_counter() < last and _missing(run, listeners):
            await asyncio.sleep(100 * TICK_SECONDS)
    counted = {position for position, started in run.started.items() if run.begins <= started < run.ends}
    got = [
        (position, moment) for one in listeners for position, moment in one.got.items() if position in counted
    ]
    return Watched(
        load=result,
        deliveries=len(got),
        missing=_missing(run, listeners),
        from_commit=_spread([age for one in listeners for age in one.ages]),
        from_answer=_spread([moment - run.acknowledged[position] for position, moment in got]),
        from_sending=_spread([moment - run.started[position] for position, moment in got]),
    )


def _missing(run: Run, listeners: list[Listener]) -> int:
    return sum(len(run.acknowledged.keys() - one.got.keys()) for one in listeners)


def _spread(seconds: list[float]) -> tuple[float, float, float]:
    times = sorted(seconds)
    return (at(times, 0.5), at(times, 0.99), at(times, 1.0)) if times else (0.0, 0.0, 0.0)


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Watch)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(main(asked))))
