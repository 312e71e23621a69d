"""Clients that go on writing while a server comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from harness.client import Client

CLIENTS = 4
PAUSE_SECONDS = 0.02
"""Of each client between two writes: enough is written to cut anywhere, and a page can hold it all."""


class Load:
    """What was acknowledged."""

    def __init__(self, url: str, types: tuple[str, ...]) -> None:
        self.positions: dict[str, list[int]] = {type: [] for type in types}
        """Of each type those that were told in an ETag."""
        self._url = url

    async def write(self, number: int) -> None:
        """PUT and DELETE in turn, over a handful of ids; a server that is away is tried again."""
        async with aiohttp.ClientSession() as session:
            client, n = Client(session, self._url), number
            while True:
                n += 1
                for type, positions in self.positions.items():
                    try:
                        path = f"/{type}/r{n % 7}.{number}"
                        reply = await (client.delete(path) if n % 5 == 0 else client.put(path, {"n": n}))
                    except aiohttp.ClientError:
                        continue
                    finally:
                        await asyncio.sleep(PAUSE_SECONDS)
                    assert reply.status in (200, 201, 204, 503), reply.data
                    if "ETag" in reply.headers:
                        positions.append(reply.version)


@asynccontextmanager
async def writing(url: str, *types: str) -> AsyncIterator[Load]:
    """Write to these types until the block ends."""
    load = Load(url, types)
    async with asyncio.TaskGroup() as tasks:
        writers = [tasks.create_task(load.write(number)) for number in range(CLIENTS)]
        try:
            yield load
        finally:
            for writer in writers:
                writer.cancel()
