"""Isolation and uniqueness under concurrent clients, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness.client import Client

from eventstore.projection import Change, Column, Lifecycle, Rows, Table
from eventstore.server.app import serving
from eventstore.server.settings import NatsSettings, Settings
from projections.engine import BUILT_IN

CLIENTS = 64
INCREMENTS = 10_000


async def test_if_match_increments_lose_no_update(client: Client) -> None:
    """The counter is the number of 200s, and the ETag in each 412 was current when it was given."""
    await client.define("Counter")
    created = await client.put("/Counter/one", {"n": 0})
    rounds = iter(range(INCREMENTS))
    accepted: dict[int, int] = {created.version: 0}
    refused: list[tuple[int, int]] = []

    async def increment() -> None:
        for _ in rounds:
            read = await client.get("/Counter/one")
            n = read.json["n"] + 1
            reply = await client.put("/Counter/one", {"n": n}, If_Match=read.headers["ETag"])
            if reply.status == 200:
                accepted[reply.version] = n
            else:
                assert reply.status == 412
                refused.append((read.version, reply.version))

    await asyncio.gather(*(increment() for _ in range(CLIENTS)))

    last = await client.get("/Counter/one")
    assert last.json["n"] == len(accepted) - 1
    assert len(accepted) - 1 + len(refused) == INCREMENTS
    assert sorted(accepted.values()) == list(range(len(accepted)))
    assert all(now > read and now in accepted for read, now in refused)


async def test_of_500_posts_of_one_id_one_is_created(client: Client) -> None:
    await client.define()
    replies = await asyncio.gather(*(client.post("/UserSetting", {"id": "same", "n": n}) for n in range(500)))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 499
    (created,) = [reply for reply in replies if reply.status == 201]
    assert (await client.get("/UserSetting/same")).json == created.json


async def test_merge_patches_to_different_keys_are_all_there(client: Client) -> None:
    await client.define()
    await client.put("/UserSetting/one", {"kept": True})
    patches = [client.patch("/UserSetting/one?_type=merge-patch", {f"k{n}": n}) for n in range(CLIENTS)]
    assert {reply.status for reply in await asyncio.gather(*patches)} == {200}
    found = (await client.get("/UserSetting/one")).json
    assert found["kept"] is True
    assert {key: value for key, value in found.items() if key[0] == "k" and key != "kept"} == {
        f"k{n}": n for n in range(CLIENTS)
    }


async def test_nothing_is_accepted_after_the_type_was_closed(client: Client) -> None:
    """By position: what a definition forbids is not in the log after it, however many write at that moment."""
    await client.define()
    closing = asyncio.Event()
    accepted: list[int] = []

    async def write() -> int:
        refused = 0
        for n in range(30):
            reply = await client.post("/UserSetting", {"extra": n})
            if reply.status == 201:
                accepted.append(reply.version)
            else:
                assert reply.status == 422, reply.data
                refused += 1
            if n == 5:
                closing.set()
        return refused

    async def close() -> int:
        await closing.wait()
        reply = await client.patch("/Entity/UserSetting?_type=json-merge-patch", {"isOpen": False})
        assert reply.status == 200
        return reply.version

    closed, *refusals = await asyncio.gather(close(), *(write() for _ in range(CLIENTS)))
    assert accepted, "some were written before"
    assert sum(refusals), "some were refused after"
    assert max(accepted) < closed


class Fragile:
    """An inline projection whose table refuses one id: a failpoint inside the write's transaction."""

    name = "fragile"
    version = 1
    lifecycle: Lifecycle = "inline"
    tables = (Table("quire_test_fragile", (Column("id"),), (Column("n", "integer"),)),)

    def project(self, changes: Sequence[Change], rows: Rows) -> None:
        for change in changes:
            value = None if change.event.id == "culprit" else change.event.position
            rows.upsert("quire_test_fragile", (change.event.id,), (value,))


@pytest.fixture
async def fragile(tmp_path: Path) -> AsyncIterator[Client]:
    settings = Settings(port=0, data=tmp_path / "data", nats=NatsSettings("off"))
    async with (
        serving(settings, (*BUILT_IN, Fragile())) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield Client(session, url)


async def test_a_command_that_fails_in_a_projection_fails_alone(fragile: Client) -> None:
    await fragile.define()
    ids = [f"r{n}" for n in range(CLIENTS - 1)] + ["culprit"]
    before = await fragile.tip()
    replies = await asyncio.gather(*(fragile.put(f"/UserSetting/{id}", {"n": 1}) for id in ids))
    by_id = dict(zip(ids, replies, strict=True))
    assert by_id["culprit"].status == 500
    assert {reply.status for id, reply in by_id.items() if id != "culprit"} == {201}
    assert await fragile.tip() == before + CLIENTS - 1
    assert (await fragile.get("/UserSetting/culprit")).status == 404
    listed = await fragile.get("/UserSetting?_count=1000")
    assert listed.json["total"] == CLIENTS - 1


async def test_reads_after_writes_are_fresh(client: Client) -> None:
    """Your own write is in your next read, list and count."""
    await client.define()

    async def write_and_look(n: int) -> Any:
        id = f"r{n}"
        created = await client.put(f"/UserSetting/{id}", {"n": n})
        read, listed = await asyncio.gather(
            client.get(f"/UserSetting/{id}"), client.get("/UserSetting?_count=1000")
        )
        assert read.version == created.version
        assert id in {entry["resource"]["id"] for entry in listed.json["entry"]}
        assert listed.json["total"] == len(listed.json["entry"])

    await asyncio.gather(*(write_and_look(n) for n in range(100)))
