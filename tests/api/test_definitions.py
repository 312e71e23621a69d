"""Two who change one definition at a time, over HTTP: on both backends, and on two nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from harness.client import Client

from eventstore.server.app import serving
from eventstore.server.settings import Settings

ROUNDS = 20


@pytest.fixture
async def writers(settings: Settings) -> AsyncIterator[list[Client]]:
    """Two clients; on PostgreSQL each of a node of its own."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        urls = [await stack.enter_async_context(serving(settings)) for _ in range(2 if settings.db else 1)]
        yield [Client(session, urls[n % len(urls)]) for n in range(2)]


def attribute(type: str) -> dict[str, Any]:
    return {"resource": {"id": "Pump"}, "path": ["serial"], "type": {"id": type}}


async def test_with_if_match_one_of_two_is_told(writers: list[Client]) -> None:
    version = (await writers[0].define("Pump")).version
    for n in range(ROUNDS):
        one, other = await asyncio.gather(
            *(
                client.put(
                    "/Entity/Pump",
                    {"type": "resource", "isOpen": True, "description": f"{n} of {i}"},
                    If_Match=f'W/"{version}"',
                )
                for i, client in enumerate(writers)
            )
        )
        assert {one.status, other.status} == {200, 412}
        won = one if one.status == 200 else other
        lost = other if one.status == 200 else one
        assert lost.headers["ETag"] == won.headers["ETag"], "and is told the version to look at"
        version = won.version
    assert (await writers[0].get("/Entity/Pump")).version == version


async def test_without_it_the_last_counts_and_both_are_in_the_history(writers: list[Client]) -> None:
    await writers[0].define("Pump")
    replies = await asyncio.gather(
        *(
            client.put("/Attribute/Pump.serial", attribute(type))
            for _ in range(ROUNDS)
            for client, type in zip(writers, ("string", "integer"), strict=True)
        )
    )
    assert {reply.status for reply in replies} == {200, 201}
    last = max(replies, key=lambda reply: reply.version)
    fits = "A-7" if last.json["type"]["id"] == "string" else 7
    for client in writers:
        assert (await client.put("/Pump/a", {"serial": fits})).status in (200, 201)
        assert (await client.put("/Pump/a", {"serial": True})).status == 422
    history = await writers[1].get("/Attribute/Pump.serial/_history")
    assert history.json["total"] == 2 * ROUNDS


async def test_of_two_that_exclude_one_another_one_is_refused(writers: list[Client]) -> None:
    """Two Attributes of one place; two definitions of one type in two formats."""
    await writers[0].define("Pump")
    for n in range(ROUNDS):
        one, other = await asyncio.gather(
            writers[0].put(f"/Attribute/one-{n}", {**attribute("string"), "path": [f"p{n}"]}),
            writers[1].put(f"/Attribute/other-{n}", {**attribute("code"), "path": [f"p{n}"]}),
        )
        assert {one.status, other.status} == {201, 422}
        about = {"url": f"http://example.org/T{n}", "name": f"T{n}", "kind": "resource"}
        one, other = await asyncio.gather(
            writers[0].put(f"/Entity/T{n}", {"type": "resource"}),
            writers[1].put(
                f"/FHIRSchema/T{n}", {**about, "derivation": "specialization", "base": "Resource"}
            ),
        )
        assert {one.status, other.status} == {201, 409}


async def test_an_entity_is_dumped_and_comes_back_in_another_format(client: Client) -> None:
    await client.define("Pump", isOpen=False)
    await client.post("/Attribute", {**attribute("code"), "enum": ["a", "b"]})
    for base in ("", "/fhir"):
        dump = await client.get(f"{base}/Entity/Pump/$dump-as-fhir-schema?url=http://example.org/Pump")
        assert (dump.status, dump.json["url"]) == (200, "http://example.org/Pump")
    await client.delete("/Entity/Pump")
    assert (await client.put("/FHIRSchema/Pump", dump.json)).status == 201
    assert (await client.post("/fhir/Pump", {"resourceType": "Pump", "serial": "a"})).status == 201
    refused = await client.post("/fhir/Pump", {"resourceType": "Pump", "serial": "c"})
    assert refused.messages == ["expected one of a, b"]
    assert (await client.get("/FHIRSchema/Pump/$dump-as-fhir-schema")).status == 404
    assert (await client.get("/Entity/Nobody/$dump-as-fhir-schema")).status == 404


async def test_what_a_dump_cannot_say_is_listed(client: Client) -> None:
    await client.define("Pump", isOpen=False)
    await client.post("/Attribute", {**attribute("string"), "isUnique": True})
    refused = await client.get("/Entity/Pump/$dump-as-fhir-schema")
    assert (refused.status, refused.json["errors"]) == (
        422,
        [{"path": ["serial"], "message": "a FHIRSchema cannot say isUnique: it is for Attributes"}],
    )
