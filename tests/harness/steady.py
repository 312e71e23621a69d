"""Open-loop load: so many writes a second are due, whether or not those before them were answered."""

from __future__ import annotations

import asyncio
import time
from random import Random

from harness.crowd import quantile
from harness.record import Write
from harness.tasks import ended
from harness.traffic import Client, Traffic

WORKERS = 192
"""So many are under way at once at most; the others wait, and their waiting counts."""
TICK_SECONDS = 0.01
REPLACED = 500
"""So many resources are written again and again, beside those that are new."""
TEXT = "x" * 200


class Steady:
    """The clients of an open loop, and how long after it was due each write was answered."""

    def __init__(self, traffic: Traffic, seed: int, writes_per_second: float) -> None:
        self.delays_seconds: list[float] = []
        self.seconds = 0.0
        self._rate = writes_per_second
        self._due: asyncio.Queue[tuple[int, float] | None] = asyncio.Queue()
        self._clients = [
            Client(traffic.shared, Random(f"{seed}/steady{n}"), 1000 + n) for n in range(WORKERS)
        ]
        self._tasks = [asyncio.create_task(self._work(client)) for client in self._clients]
        self._task = asyncio.create_task(self._schedule())
        self._ending = False

    async def _schedule(self) -> None:
        """Put what is due into the queue, by the clock."""
        begun, number = time.monotonic(), 0
        while not self._ending:
            self.seconds = time.monotonic() - begun
            while number < self._rate * self.seconds:
                self._due.put_nowait((number, begun + number / self._rate))
                number += 1
            await asyncio.sleep(TICK_SECONDS)

    async def _work(self, client: Client) -> None:
        while (due := await self._due.get()) is not None:
            number, at = due
            write = _write(number)
            # a late PUT without a precondition may land on what another client has put meanwhile: it is sent once
            await client.write(write, again=write.absent)
            self.delays_seconds.append(time.monotonic() - at)
        await client.close()

    def raise_failed(self) -> None:
        for task in (self._task, *self._tasks):
            if task.done():
                task.result()

    async def stop(self) -> None:
        """Nothing more is due; end when everything that was has an answer."""
        self._ending = True
        await self._task
        begun = time.monotonic()
        for _ in self._tasks:
            self._due.put_nowait(None)
        await asyncio.gather(*self._tasks)
        self.seconds += time.monotonic() - begun

    async def cancel(self) -> None:
        await ended(self._task, *self._tasks)
        await asyncio.gather(self._task, *self._tasks, return_exceptions=True)

    def __str__(self) -> str:
        delays = self.delays_seconds
        return (
            f"{len(delays) / max(self.seconds, 1e-9):.0f} writes/s of {self._rate:g} due, "
            f"delay p50 {quantile(delays, 0.5):.2f} s p99 {quantile(delays, 0.99):.2f} s"
        )


def _write(number: int) -> Write:
    if number % 4:
        return Write("PUT", "Note", f"s{number}", {"n": number, "text": TEXT}, absent=True)
    return Write("PUT", "Note", f"r{number % REPLACED}", {"n": number, "text": TEXT})
