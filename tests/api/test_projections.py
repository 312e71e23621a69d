"""Projections over HTTP: how they stand in `/ready` and `/metrics`, built anew and unparked while the server runs."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import msgspec
import pytest
from harness.checkers import replayable
from harness.client import Client
from harness.colours import Colours

from eventstore.errors import Forbidden
from eventstore.log.opening import open_log
from eventstore.projection import Change, Rows
from eventstore.server.app import serving
from eventstore.server.projecting import refuse_strangers
from eventstore.server.settings import Settings
from projections import rebuild
from projections.engine import BUILT_IN

SECONDS_MAX = 20


class Painted:
    """A server with a projection of each policy, and a client of it."""

    def __init__(self, client: Client, parking: Colours, halting: Colours) -> None:
        self.client = client
        self.parking = parking
        self.halting = halting

    async def paint(self, *colours: str) -> list[int]:
        return [
            (await self.client.put(f"/Thing/t{n}", {"colour": colour})).version
            for n, colour in enumerate(colours)
        ]

    async def standings(self) -> dict[str, dict[str, Any]]:
        told = await self.client.get("/ready")
        assert told.status == 200
        return {one["name"]: one for one in told.json["projections"]}

    async def until(self, name: str, **wanted: Any) -> dict[str, Any]:
        async with asyncio.timeout(SECONDS_MAX):
            while not wanted.items() <= (found := (await self.standings())[name]).items():
                await asyncio.sleep(0.01)
        return found

    async def metric(self, name: str, projection: str) -> float:
        text = (await self.client.get("/metrics")).data.decode()
        found = re.search(
            rf'^quire_projection_{name}{{projection="{projection}"}} (\S+)$', text, re.MULTILINE
        )
        assert found is not None, text
        return float(found[1])

    async def lines(self, query: str) -> list[dict[str, Any]]:
        reply = await self.client.post(f"/$rebuild{query}", None)
        assert reply.status == 200, reply.data
        return [json.loads(line) for line in reply.data.splitlines()]


class Halting(Colours):
    """The same rows in tables of its own names."""

    name = "halting"
    tables = tuple(msgspec.structs.replace(table, name=f"{table.name}_halting") for table in Colours.tables)

    def project(self, changes: Any, rows: Rows) -> None:
        own = Rows()
        super().project(changes, own)
        rows.upserts = {f"{name}_halting": upserts for name, upserts in own.upserts.items()}
        rows.deletes = {f"{name}_halting": deletes for name, deletes in own.deletes.items()}
        rows.sums = {f"{name}_halting": sums for name, sums in own.sums.items()}


@pytest.fixture
async def painted(settings: Settings) -> AsyncIterator[Painted]:
    parking, halting = Colours("park", wrong=("puce",)), Halting("halt", wrong=("puce",))
    async with serving(settings, [*BUILT_IN, parking, halting]) as url, aiohttp.ClientSession() as session:
        client = Client(session, url)
        await client.define("Thing")
        yield Painted(client, parking, halting)


async def test_a_halted_projection_is_seen_and_stops_nothing_else(painted: Painted) -> None:
    *_, wrong, _ = await painted.paint("red", "blue", "puce", "red")
    halted = await painted.until("halting", state="halted")
    assert (halted["position"], halted["haltedAt"], halted["lagEvents"]) == (3, wrong, 2)
    assert halted["reason"] == "ValueError: puce is no colour"
    assert await painted.until("colours", state="following", lagEvents=0, parked=1)
    assert await painted.metric("halted_position", "halting") == wrong
    assert await painted.metric("lag_events", "halting") == 2
    assert await painted.metric("lag_seconds", "halting") > 0
    assert await painted.metric("position", "halting") == 3
    assert await painted.metric("parked_events", "colours") == 1
    assert await painted.metric("lag_seconds", "colours") == 0
    assert await painted.metric("halted_position", "colours") == 0
    assert (await painted.client.get("/ready")).json["status"] == "pass"


async def test_rebuilds_all_or_some_and_tells_how_far(painted: Painted, settings: Settings) -> None:
    await painted.paint("red", "blue", "red")
    done = [line["built"]["projection"] for line in await painted.lines("") if "built" in line]
    assert done == ["current", "views", "colours", "halting"]
    (last,) = [line for line in await painted.lines("?projection=colours") if "built" in line]
    assert (last["position"], last["tip"]) == (4, 4)
    assert last["built"] == {
        "projection": "colours",
        "position": 4,
        "parked": 0,
        "seconds": last["built"]["seconds"],
    }
    assert len([one for one in await painted.lines("?projection=views,current") if "built" in one]) == 2
    log = await open_log(settings.place, write=False)
    await replayable(log, [], [painted.parking, painted.halting, BUILT_IN[1]])
    await log.close()


async def test_a_rebuild_that_fails_is_told_and_the_next_one_begun(painted: Painted) -> None:
    await painted.paint("red", "puce")
    halted = await painted.until("halting", state="halted")
    lines = await painted.lines("?projection=halting,current")
    assert [line["error"] for line in lines if "error" in line] == [
        "at position 3: ValueError: puce is no colour"
    ]
    assert lines[-1]["built"]["projection"] == "current"
    assert (await painted.standings())["halting"] | {"lagSeconds": 0} == halted | {"lagSeconds": 0}


async def test_unparks_what_was_mended(painted: Painted) -> None:
    await painted.paint("red", "puce", "puce")
    await painted.until("colours", parked=2, lagEvents=0)
    assert (await painted.client.post("/$unpark", None)).json == [
        {"projection": "colours", "handled": 0, "parked": 2},
        {"projection": "halting", "handled": 0, "parked": 0},
    ]
    painted.parking.wrong = ()
    reply = await painted.client.post("/$unpark?projection=colours", None)
    assert reply.json == [{"projection": "colours", "handled": 2, "parked": 0}]
    assert (await painted.standings())["colours"]["parked"] == 0
    reply = await painted.client.post("/$unpark?projection=current", None)
    assert (reply.status, reply.messages) == (409, ["current is kept with every write: it parks nothing"])


@pytest.mark.parametrize("operation", ["$rebuild", "$unpark"])
async def test_what_it_refuses(painted: Painted, operation: str) -> None:
    reply = await painted.client.post(f"/{operation}?projection=colours,nonsense", None)
    assert (reply.status, reply.messages) == (
        404,
        ["there is no projection nonsense; there are colours, current, halting, views"],
    )
    reply = await painted.client.post(f"/{operation}", None, Origin="http://elsewhere.example")
    assert reply.status == 403
    with pytest.raises(Forbidden, match="own machine"):
        refuse_strangers("192.0.2.7")


class Slow(Colours):
    """Takes its time, so that a rebuild of it can be met on its way."""

    name = "slow"
    seconds = 0.0

    def project(self, changes: Sequence[Change], rows: Rows) -> None:
        time.sleep(self.seconds)
        super().project(changes, rows)


async def test_a_rebuild_under_way_is_seen_refuses_another_and_ends_with_who_asked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "REBUILD_CHUNK_EVENTS", 1)
    monkeypatch.setattr(rebuild, "SWITCH_EVENTS_MAX", 0)
    slow = Slow()
    async with aiohttp.ClientSession() as session, AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(settings, [*BUILT_IN, slow]))
        client = Client(session, url)
        await client.define("Thing")
        lines = b"\n".join(b'{"resourceType":"Thing","id":"t%d","colour":"red"}' % n for n in range(500))
        assert (await client.post("/$import", lines, Content_Type="application/x-ndjson")).status == 200
        slow.seconds = 0.01
        async with session.post(f"{url}/$rebuild?projection=slow") as response:
            while "position" not in (told := json.loads(await response.content.readline())):
                assert "error" not in told, told
            assert 0 < told["position"] < told["tip"] == 501
            assert (await client.get("/ready")).json["rebuilds"]["slow"] >= told["position"]
            text = (await client.get("/metrics")).data.decode()
            assert 'quire_projection_rebuild_position{projection="slow"}' in text
            reply = await client.post("/$rebuild?projection=current,slow", None)
            assert (reply.status, reply.messages) == (409, ["slow is being built anew already"])
        async with asyncio.timeout(SECONDS_MAX):
            while (await client.get("/ready")).json["rebuilds"]:
                await asyncio.sleep(0.01)
        slow.seconds = 0.0
        assert (await client.post("/$rebuild?projection=slow", None)).data.count(b'"built"') == 1
        slow.seconds = 0.01
        response = await session.post(f"{url}/$rebuild?projection=slow")
        await response.content.readline()
        await stack.aclose()
        assert json.loads((await response.read()).splitlines()[-1])["error"] == "the server stops"
