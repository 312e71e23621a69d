"""Killed while projections are built anew under load: reads stay right, leftovers go, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from harness import checkers
from harness.checkers import Acknowledged
from harness.client import Client
from harness.colours import Colours
from harness.process import PAINTING, Server

from eventstore.audit import verify
from eventstore.claims import TABLE as CLAIM
from eventstore.log.sqlite import SQLiteLog
from eventstore.projection import Projection
from projections.check import check
from projections.current import Current
from projections.engine import BUILT_IN
from projections.views import Views

KILLS = 6
CLIENTS = 8
FIRST_EVENTS = 6000
PAINT = ("red", "blue", "green", None)
SECONDS_MAX = 60


class Load:
    """Clients that paint until the server is gone, and note what they were told."""

    def __init__(self) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.number = 0

    async def paint(self, client: Client) -> None:
        while True:
            self.number += 1
            n = self.number
            path, colour = f"/Thing/t{n % 97}", "puce" if n % 100 == 0 else PAINT[n % len(PAINT)]
            try:
                reply = await (client.put(path, {"colour": colour}) if colour else client.delete(path))
            except (aiohttp.ClientError, ConnectionError):
                return
            if "ETag" in reply.headers:
                body = reply.json if reply.data else None
                self.acknowledged.append(Acknowledged("Thing", path[7:], reply.version, body))

    async def rebuild(self, client: Client) -> None:
        """Build all projections anew, again and again."""
        while True:
            try:
                reply = await client.post("/$rebuild", None)
            except (aiohttp.ClientError, ConnectionError):
                return
            assert b'"error"' not in reply.data, reply.data

    async def run(self, url: str) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            client = Client(session, url)
            await asyncio.gather(self.rebuild(client), *(self.paint(client) for _ in range(CLIENTS)))


async def _building(url: str) -> bool:
    async with aiohttp.ClientSession() as session:
        return bool((await Client(session, url).get("/ready")).json["rebuilds"])


async def _begin(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        client = Client(session, url)
        await client.define("Thing")
        lines = [
            json.dumps({"resourceType": "Thing", "id": f"f{n % 2000}", "n": n, "colour": PAINT[n % 3]})
            for n in range(FIRST_EVENTS)
        ]
        reply = await client.post("/$import", "\n".join(lines).encode(), Content_Type="application/x-ndjson")
        assert reply.status == 200


async def _holds(data: Path, acknowledged: list[Acknowledged], projections: Sequence[Projection]) -> None:
    log = await SQLiteLog.open(data, write=False)
    try:
        events = await checkers.events_of(log)
        checkers.gapless(events)
        checkers.ordered(events)
        checkers.durable(events, acknowledged)
        checkers.unique(events, acknowledged)
        await checkers.replayable(log, events, projections)
        report = await verify(log)
        assert report.faults.listed == []
        tables = [CLAIM, *(table for one in projections for table in one.tables)]
        assert await log.schema_faults(tables) == []
    finally:
        await log.close()


async def test_killed_while_everything_is_built_anew_under_load(tmp_path: Path) -> None:
    server, load = Server(tmp_path / "data"), Load()
    server.program, server.options = PAINTING, ("--wrong", "puce")
    projections = [*BUILT_IN, Colours("park", ("puce",))]
    await server.start()
    await _begin(server.url)
    chance = random.Random(7)
    for _ in range(KILLS):
        task = asyncio.create_task(load.run(server.url))
        async with asyncio.timeout(SECONDS_MAX):
            while not await _building(server.url):
                await asyncio.sleep(0.01)
        await asyncio.sleep(chance.random())  # wherever that is
        await server.kill()
        await task
        await _holds(server.data, load.acknowledged, projections)
        await server.start()
    assert await server.stop() == 0
    await _holds(server.data, load.acknowledged, projections)
    await _clean(server.data)


async def test_killed_while_a_new_version_is_built(tmp_path: Path) -> None:
    server, load = Server(tmp_path / "data"), Load()
    server.program, server.options = PAINTING, ("--wrong", "puce")
    await server.start()
    await _begin(server.url)
    await server.stop()
    server.options = ("--version", "2")
    chance = random.Random(8)
    for _ in range(3):
        await server.start()
        await asyncio.sleep(chance.random() / 10)  # wherever that is
        await server.kill()
    await server.start()
    async with asyncio.timeout(SECONDS_MAX), aiohttp.ClientSession() as session:
        client = Client(session, server.url)
        while (found := (await client.get("/ready")).json)["projections"][0]["state"] != "following" or found[
            "rebuilds"
        ]:
            await asyncio.sleep(0.02)
    assert await server.stop() == 0
    await _holds(server.data, load.acknowledged, [Current(), Views(), Colours(version=2)])
    await _clean(server.data)


async def _clean(data: Path) -> None:
    """Nothing of a rebuild is left after a start and a stop, and `verify` finds nothing but the tests' projection."""
    log = await SQLiteLog.open(data)
    await log.discard()
    try:
        found = await check(log, await verify(log))
    finally:
        await log.close()
    assert {one.what for one in found.faults.listed} == {
        "quire_checkpoint has a row for colours, which is no projection of this version",
        "there is a index quire_test_painted_colour that this version does not make",
        "there is a table quire_test_colour that this version does not make",
        "there is a table quire_test_painted that this version does not make",
    }
