"""`idGeneration: sequence` over HTTP, on both backends: ids with the position of the event that created them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack

import aiohttp
import pytest
from harness.client import Client

from eventstore.batch import SEQUENCE_IDS_MAX
from eventstore.server.app import serving
from eventstore.server.settings import Settings

CLIENTS = 64


async def test_the_number_is_the_position(client: Client) -> None:
    await client.define("Order", idGeneration="sequence", sequencePrefix="O-")
    made = await client.post("/Order", {"n": 1})
    assert made.status == 201
    assert made.json["id"] == f"O-{made.version}"
    assert made.headers["Location"].endswith(f"/Order/O-{made.version}/_history/{made.version}")
    assert (await client.get(f"/Order/O-{made.version}")).data == made.data
    assert (await client.put(f"/Order/O-{made.version}", {"n": 2})).status == 200
    assert (await client.post("/Order", {"id": "mine"})).json["id"] == "mine"


async def test_without_a_prefix_it_is_the_number_alone(client: Client) -> None:
    await client.define("Order", idGeneration="sequence")
    made = await client.post("/Order", {})
    assert made.json["id"] == str(made.version)
    told = await client.request(
        "POST", "/$import", b'{"resourceType":"Order","n":1}', Content_Type="application/x-ndjson"
    )
    assert json.loads(told.data)["resource"] == f"Order/{made.version + 1}"


async def test_what_uuids_are_given_to_may_change(client: Client) -> None:
    await client.define("Order", idGeneration="uuid")
    assert len((await client.post("/Order", {})).json["id"]) == 36
    await client.put("/Entity/Order", {"type": "resource", "isOpen": True, "idGeneration": "sequence"})
    assert (await client.post("/Order", {})).json["id"].isdigit()


async def test_an_id_that_a_client_used_is_not_given(client: Client) -> None:
    await client.define("Order", idGeneration="sequence")
    position = await client.tip() + 3
    await client.put(f"/Order/{position}", {"of": "the client"})
    await client.put(f"/Order/{position}.1", {"of": "the client"})
    made = await client.post("/Order", {"of": "the server"})
    assert (made.status, made.json["id"]) == (201, f"{position}.2")
    assert (await client.get(f"/Order/{position}")).json["of"] == "the client"
    assert (await client.post("/Order", {})).json["id"] == str(position + 1)


async def test_there_is_an_end_to_ids_that_clients_used(client: Client) -> None:
    await client.define("Order", idGeneration="sequence", sequencePrefix="O-")
    position = await client.tip() + SEQUENCE_IDS_MAX + 1
    for n in range(SEQUENCE_IDS_MAX):
        await client.put(f"/Order/O-{position}{f'.{n}' * (n > 0)}", {})
    refused = await client.post("/Order", {"of": "the server"})
    assert refused.status == 409
    assert refused.messages[0].endswith("send it with an id of its own")
    assert (await client.post("/Order", {"id": "own"})).status == 201
    assert (await client.post("/Order", {})).json["id"] == f"O-{position + 1}"


async def test_refused_ones_in_a_batch_move_those_behind_them(client: Client) -> None:
    await client.define("Order", idGeneration="sequence", sequencePrefix="O")
    await client.define("Closed", isOpen=False)
    asked = [
        client.post("/Order", {"n": n}) if n % 3 else client.post("/Closed", {"id": "one"})
        for n in range(3 * CLIENTS)
    ]
    replies = [reply for n, reply in enumerate(await asyncio.gather(*asked)) if n % 3]
    assert Counter(reply.status for reply in replies) == {201: 2 * CLIENTS}
    assert all(reply.json["id"] == f"O{reply.version}" for reply in replies)


@pytest.mark.parametrize("backend", ["postgres"])
async def test_of_two_nodes_none_gives_the_same(settings: Settings, backend: str) -> None:
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        nodes = [Client(session, await stack.enter_async_context(serving(settings))) for _ in range(2)]
        await nodes[0].define("Order", idGeneration="sequence")
        replies = await asyncio.gather(*(nodes[n % 2].post("/Order", {}) for n in range(4 * CLIENTS)))
        assert {reply.status for reply in replies} == {201}
        ids = {reply.json["id"] for reply in replies}
        assert len(ids) == 4 * CLIENTS
        assert all(id.isdigit() for id in ids)
        assert all(reply.json["id"] == str(reply.version) for reply in replies)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sequencePrefix": "O"}, "sequencePrefix is for idGeneration: sequence"),
        ({"idGeneration": "sequence", "type": "type"}, "idGeneration is for types of resources"),
        ({"idGeneration": "random"}, "expected one of uuid, sequence"),
        (
            {"idGeneration": "sequence", "sequencePrefix": "a/b"},
            "does not match the pattern ^[A-Za-z0-9.-]*$",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused(client: Client, more: dict[str, str], message: str) -> None:
    reply = await client.post("/Entity", {"id": "Order", "type": "resource", **more})
    assert (reply.status, reply.messages) == (422, [message])
