"""Durable: kill -9 and SIGTERM under load, on a real process; every acknowledged write is there."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from harness import checkers
from harness.checkers import Acknowledged
from harness.client import Client
from harness.process import Server

from eventstore.audit import verify
from eventstore.log.opening import Place, open_log

NewPlace = Callable[[], Awaitable[Place]]

KILLS = 10
CLIENTS = 16
WRITES_BEFORE_THE_END = 150


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def started_over(place: Place) -> Server:
    """A server over the place, not yet started."""
    server = Server(place.data)
    server.environment["QUIRE_DB"] = place.db
    return server


class Load:
    """Clients that write until the server is gone, and note what they were told."""

    def __init__(self) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.refused: list[int] = []
        self.numbers = itertools.count()
        self.enough = asyncio.Event()

    async def write(self, client: Client) -> None:
        for n in self.numbers:
            id = f"r{n % 50}"
            try:
                if n % 7 == 0:
                    reply = await client.delete(f"/UserSetting/{id}")
                elif n % 3 == 0:
                    reply = await client.post("/UserSetting", {"n": n})
                else:
                    reply = await client.put(f"/UserSetting/{id}", {"n": n})
            except (aiohttp.ClientError, ConnectionError):
                return
            self._note(reply, id)

    def _note(self, reply: object, id: str) -> None:
        from harness.client import Reply

        assert isinstance(reply, Reply)
        if reply.status == 503:
            self.refused.append(reply.status)
        elif "ETag" in reply.headers:
            body = reply.json if reply.data else None
            told = Acknowledged("UserSetting", body["id"] if body else id, reply.version, body)
            self.acknowledged.append(told)
            if len(self.acknowledged) % WRITES_BEFORE_THE_END == 0:
                self.enough.set()

    async def until_enough(self, url: str) -> asyncio.Task[None]:
        """Load the server until some writes were acknowledged; the task goes on until it is gone."""
        self.enough.clear()
        task = asyncio.create_task(self._clients(url))
        async with asyncio.timeout(30):
            await self.enough.wait()
        return task

    async def _clients(self, url: str) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(self.write(Client(session, url)) for _ in range(CLIENTS)))


async def _define(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        await Client(session, url).define()


async def _holds(place: Place, acknowledged: list[Acknowledged]) -> None:
    log = await open_log(place, write=False)
    try:
        events = await checkers.events_of(log)
        checkers.gapless(events)
        checkers.ordered(events)
        checkers.durable(events, acknowledged)
        checkers.unique(events, acknowledged)
        await checkers.replayable(log, events)
        assert (await verify(log)).faults.listed == []
    finally:
        await log.close()


async def test_killed_ten_times_under_load_nothing_acknowledged_is_lost(place: Place) -> None:
    server, load = started_over(place), Load()
    await server.start()
    await _define(server.url)
    for _ in range(KILLS):
        task = await load.until_enough(server.url)
        await server.kill()
        await task
        await server.start()
        await _holds(place, load.acknowledged)
    assert await server.stop() == 0
    await _holds(place, load.acknowledged)


async def test_stopped_under_load_it_ends_in_time_and_loses_nothing(place: Place) -> None:
    server, load = started_over(place), Load()
    await server.start()
    await _define(server.url)
    task = await load.until_enough(server.url)
    assert await server.stop(seconds=5) == 0
    await task
    await _holds(place, load.acknowledged)
    await server.start()
    assert await server.stop() == 0


@pytest.mark.parametrize("backend", ["postgres"])
async def test_of_two_servers_on_one_database_one_is_killed_and_the_other_goes_on(
    new_place: NewPlace,
) -> None:
    place = await new_place()
    first, second, load = started_over(place), started_over(place), Load()
    await first.start()
    await second.start()
    await _define(first.url)
    tasks = [await load.until_enough(first.url), await load.until_enough(second.url)]
    await first.kill()
    await tasks[0]
    load.enough.clear()
    async with asyncio.timeout(30):
        await load.enough.wait()
    assert await second.stop() == 0
    await tasks[1]
    await _holds(place, load.acknowledged)
