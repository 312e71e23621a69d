"""`isUnique` over HTTP, on both backends: no two resources of a type have the same value, however many write at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from harness.client import Client, Reply

from eventstore.server.app import serving
from eventstore.server.settings import Settings

CLIENTS = 64


async def attribute(client: Client, path: str = "serial", status: int = 201, **more: Any) -> Reply:
    """Make a place of Pump, a string, and unique unless told otherwise."""
    value = {
        "resource": {"id": "Pump"},
        "path": path.split("."),
        "type": {"id": "string"},
        "isUnique": True,
        **more,
    }
    reply = await client.put(f"/Attribute/Pump.{path}", {k: v for k, v in value.items() if v is not None})
    assert reply.status == status, reply.data
    return reply


@pytest.fixture
async def pumps(client: Client) -> Client:
    await client.define("Pump")
    await attribute(client)
    return client


async def test_a_value_is_had_once(pumps: Client) -> None:
    assert (await pumps.put("/Pump/a", {"serial": "A-7"})).status == 201
    refused = await pumps.put("/Pump/b", {"serial": "A-7"})
    assert refused.status == 409
    assert refused.json["issue"][0]["code"] == "duplicate"
    assert refused.json["errors"] == [
        {"path": ["serial"], "message": 'serial is unique, and "A-7" is that of Pump/a'}
    ]
    assert (await pumps.get("/Pump/b")).status == 404
    assert (await pumps.put("/Pump/a", {"serial": "A-7", "more": 1})).status == 200, "its own is no other's"
    assert {(await pumps.post("/Pump", {})).status for _ in range(2)} == {201}, "no value is no claim"


async def test_a_delete_frees_it_and_an_update_moves_it(pumps: Client) -> None:
    await pumps.put("/Pump/a", {"serial": "A-7"})
    await pumps.put("/Pump/a", {"serial": "A-8"})
    assert (await pumps.put("/Pump/b", {"serial": "A-7"})).status == 201
    assert (await pumps.put("/Pump/b", {"serial": "A-8"})).status == 409
    await pumps.delete("/Pump/a")
    assert (await pumps.put("/Pump/b", {"serial": "A-8"})).status == 200
    assert (await pumps.put("/Pump/a", {"serial": "A-8"})).status == 409, "what came back is not owed it"


async def test_a_patch_is_held_to_it(pumps: Client) -> None:
    await pumps.put("/Pump/a", {"serial": "A-7"})
    await pumps.put("/Pump/b", {"serial": "A-8"})
    refused = await pumps.patch("/Pump/b?_type=merge-patch", {"serial": "A-7"})
    assert (refused.status, refused.json["errors"][0]["path"]) == (409, ["serial"])
    assert (await pumps.patch("/Pump/b?_type=merge-patch", {"serial": "A-9"})).status == 200


async def test_of_many_at_once_one_has_it(pumps: Client) -> None:
    replies = await asyncio.gather(*(pumps.post("/Pump", {"serial": "same"}) for _ in range(CLIENTS)))
    assert Counter(reply.status for reply in replies) == {201: 1, 409: CLIENTS - 1}
    (winner,) = [reply for reply in replies if reply.status == 201]
    others = {reply.json["errors"][0]["message"] for reply in replies if reply.status == 409}
    assert others == {f'serial is unique, and "same" is that of Pump/{winner.json["id"]}'}


async def test_two_may_exchange_theirs_one_after_the_other(pumps: Client) -> None:
    """In one batch: each write is decided after those before it."""
    await pumps.put("/Pump/a", {"serial": "1"})
    await pumps.put("/Pump/b", {"serial": "2"})
    asked = [("a", "3"), ("b", "1"), ("a", "2"), ("b", "2")]
    replies = await asyncio.gather(*(pumps.put(f"/Pump/{id}", {"serial": serial}) for id, serial in asked))
    assert [reply.status for reply in replies] == [200, 200, 200, 409]


async def test_nested_numbers_and_references(client: Client) -> None:
    await client.define("Pump")
    await attribute(client, "place.bed", type={"id": "integer"})
    await attribute(client, "patient", type=None, refers=[{"id": "Patient"}])
    await client.put("/Pump/a", {"place": {"bed": 1}, "patient": {"resourceType": "Patient", "id": "p"}})
    assert (await client.put("/Pump/b", {"place": {"bed": 1}})).json["errors"][0]["path"] == ["place", "bed"]
    reply = await client.put("/Pump/b", {"place": {"bed": 11}, "patient": {"reference": "Patient/p"}})
    assert reply.json["errors"] == [
        {"path": ["patient"], "message": 'patient is unique, and "Patient/p" is that of Pump/a'}
    ]


async def test_it_begins_where_there_are_no_two(client: Client) -> None:
    await client.define("Pump")
    for id, serial in (("a", "1"), ("b", "2"), ("c", "1"), ("d", "3"), ("d", "1"), ("d", "4")):
        await client.put(f"/Pump/{id}", {"serial": serial})
    before = await client.tip()
    refused = await attribute(client, status=409)
    assert refused.json["errors"] == [
        {"path": ["isUnique"], "message": "Pump/a and Pump/c have the same serial: change one first"}
    ]
    assert await client.tip() == before
    await client.delete("/Pump/c")
    await attribute(client)
    assert (await client.post("/Pump", {"serial": "2"})).status == 409
    assert (await client.post("/Pump", {"serial": "3"})).status == 201


async def test_it_ends_and_begins_again(pumps: Client) -> None:
    await pumps.put("/Pump/a", {"serial": "1"})
    await attribute(pumps, status=200, isUnique=False)
    assert (await pumps.put("/Pump/b", {"serial": "1"})).status == 201
    await pumps.put("/Pump/c", {"serial": "5"})
    await attribute(pumps, status=409)
    await pumps.delete("/Pump/a")
    await attribute(pumps, status=200)
    assert (await pumps.post("/Pump", {"serial": "1"})).status == 409
    assert (await pumps.post("/Pump", {"serial": "5"})).status == 409


async def test_it_begins_while_many_write(client: Client) -> None:
    """By position: after it no value comes a second time, before it some do."""
    await client.define("Pump")
    await client.put("/Pump/seed", {"serial": "seed"})

    async def write(n: int) -> None:
        for round in range(40):
            await client.put(f"/Pump/p{n}", {"serial": f"s{n % 8 if round % 9 == 8 else n}-{round}"})

    async def begin() -> int:
        for _ in range(200):
            reply = await client.put(
                "/Attribute/Pump.serial",
                {"resource": {"id": "Pump"}, "path": ["serial"], "type": {"id": "string"}, "isUnique": True},
            )
            if reply.status in (200, 201):
                return reply.version
            assert reply.status == 409, reply.data
        raise AssertionError

    begun, *_ = await asyncio.gather(begin(), *(write(n) for n in range(16)))
    await never_shared_after(client, begun)


async def never_shared_after(client: Client, begun: int) -> None:
    """Fold the history: after a position no two live resources have one serial at a time."""
    entries: list[dict[str, Any]] = []
    page = await client.get("/Pump/_history?_count=1000")
    while True:
        entries += page.json["entry"]
        more = [link["url"] for link in page.json["link"] if link["relation"] == "next"]
        if not more:
            break
        page = await client.get(more[0].removeprefix(client.url))
    held: dict[str, str] = {}
    for entry in sorted((one["resource"] for one in entries), key=lambda one: int(one["meta"]["versionId"])):
        held[entry["id"]] = entry["serial"]
        if int(entry["meta"]["versionId"]) > begun:
            assert list(held.values()).count(entry["serial"]) == 1, entry


async def test_it_outlives_the_server(settings: Settings) -> None:
    async with serving(settings) as url, aiohttp.ClientSession() as session:
        client = Client(session, url)
        await client.define("Pump")
        await attribute(client)
        await client.put("/Pump/a", {"serial": "A-7"})
    async with serving(settings) as url, aiohttp.ClientSession() as session:
        client = Client(session, url)
        assert (await client.post("/Pump", {"serial": "A-7"})).status == 409


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"isCollection": True}, "isUnique is for a place with one value: serial is a collection"),
        (
            {"type": {"id": "decimal"}},
            "isUnique and decimal exclude one another: it is for primitive types but decimal, and for refers",
        ),
        (
            {"type": None},
            "isUnique and an object exclude one another: it is for primitive types but decimal, and for refers",
        ),
        (
            {"type": None, "union": [{"id": "string"}, {"id": "code"}]},
            "isUnique and union exclude one another: the value is not at a key of its own",
        ),
        (
            {"extensionUrl": "http://example.org/x"},
            "isUnique and extensionUrl exclude one another: the value is not at a key of its own",
        ),
    ],
)
async def test_where_it_cannot_be(client: Client, more: dict[str, Any], message: str) -> None:
    await client.define("Pump")
    refused = await attribute(client, status=422, **more)
    assert message in refused.messages


async def test_a_collection_above_it_is_refused_later_too(client: Client) -> None:
    await client.define("Pump")
    await attribute(client, "place.bed")
    refused = await attribute(client, "place", 422, type=None, isUnique=None, isCollection=True)
    assert refused.messages == ["isUnique is for a place with one value: place is a collection"]


@pytest.mark.parametrize("backend", ["postgres"], indirect=False)
async def test_of_two_nodes_one_gives_it(settings: Settings, backend: str) -> None:
    """Each writes the same values at the same time; the definition came by one of them."""
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        nodes = [Client(session, await stack.enter_async_context(serving(settings))) for _ in range(2)]
        await nodes[0].define("Pump")
        await nodes[0].put("/Pump/old", {"serial": "s0"})
        await attribute(nodes[0])
        writes = [nodes[n % 2].post("/Pump", {"serial": f"s{n // 4}"}) for n in range(4 * CLIENTS)]
        replies = await asyncio.gather(*writes)
        assert Counter(reply.status for reply in replies) == {201: CLIENTS - 1, 409: 3 * CLIENTS + 1}
        serials = [reply.json["serial"] for reply in replies if reply.status == 201]
        assert len(set(serials)) == len(serials)
