"""A storm on one resource: many clients read it, add one, and write it back if nobody was faster."""

from __future__ import annotations

import asyncio
import time
from random import Random

from harness.crowd import quantile
from harness.record import Write
from harness.traffic import Client, Traffic

COUNTER = ("Counter", "storm")


class Storm:
    """The clients, and how long each write took that was accepted."""

    def __init__(self, traffic: Traffic, seed: int, clients: int) -> None:
        self.took: list[tuple[float, float]] = []
        """When each began, in seconds since the storm did, and how many seconds it took."""
        self._clients = [Client(traffic.shared, Random(f"{seed}/storm{n}"), 2000 + n) for n in range(clients)]

    async def blow(self, seconds: float) -> int:
        """For so long; what the counter has to be then."""
        first = await self._clients[0].write(Write("PUT", *COUNTER, {"n": 0}, absent=True))
        assert first.outcome == "accepted", first
        begun = time.monotonic()
        await asyncio.gather(*(self._increment(client, begun, seconds) for client in self._clients))
        return len(self.took)

    async def _increment(self, client: Client, begun: float, seconds: float) -> None:
        while (now := time.monotonic() - begun) < seconds:
            seen = await client.read(*COUNTER)
            if seen is None or seen.body is None:
                continue
            write = Write("PUT", *COUNTER, {"n": seen.body["n"] + 1}, match=seen.version)
            now = time.monotonic() - begun
            if (await client.write(write)).outcome == "accepted":
                self.took.append((now, time.monotonic() - begun - now))
        await client.close()

    async def counted(self) -> int:
        """What it is."""
        seen = await self._clients[0].read(*COUNTER)
        assert seen is not None
        assert seen.body is not None
        await self._clients[0].close()
        return int(seen.body["n"])

    def p99_seconds(self, since: float, until: float) -> float:
        """Of the writes that began then."""
        return quantile([took for at, took in self.took if since <= at < until], 0.99)
