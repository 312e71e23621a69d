"""`$deactivate` and `$activate` over HTTP, on both backends: a type that is read and not written."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from harness.client import Client

from eventstore.server.app import serving
from eventstore.server.settings import Settings

URL = "http://example.org/StructureDefinition"
DEFINITIONS: dict[str, dict[str, Any]] = {
    "Entity": {"type": "resource", "isOpen": True},
    "StructureDefinition": {
        "url": f"{URL}/Pump", "name": "Pump", "status": "active", "kind": "resource", "abstract": False,
        "type": "Pump", "baseDefinition": "http://hl7.org/fhir/StructureDefinition/DomainResource",
        "derivation": "specialization", "differential": {"element": [{"id": "Pump", "path": "Pump"}]},
    },
    "FHIRSchema": {
        "url": f"{URL}/Pump", "name": "Pump", "type": "Pump", "kind": "resource", "derivation": "specialization",
        "base": "DomainResource",
    },
}  # fmt: skip


@pytest.mark.parametrize("format", DEFINITIONS)
async def test_a_deactivated_type_reads_and_does_not_write(client: Client, format: str) -> None:
    body = {"resourceType": "Pump", "id": "a", "language": "en"}
    assert (await client.put(f"/{format}/Pump", DEFINITIONS[format])).status == 201
    assert (await client.put("/Pump/a", body)).status == 201
    off = await client.post(f"/{format}/Pump/$deactivate", "")
    assert (off.status, off.json["meta"]["tag"]) == (200, [{"code": "deactivated"}])
    remedy = f"Pump is deactivated: it is read and not written; POST /{format}/Pump/$activate lets it"
    for refused in (
        await client.put("/Pump/a", body),
        await client.post("/Pump", {"unfit": 1}),
        await client.patch("/Pump/a?_type=merge-patch", {"language": "de"}),
        await client.delete("/Pump/a"),
    ):
        assert (refused.status, refused.messages) == (409, [remedy])
    assert (await client.get("/Pump/a")).status == 200
    assert (await client.get("/Pump")).json["total"] == 1
    assert (await client.get("/Pump/_history")).status == 200
    on = await client.post(f"/{format}/Pump/$activate", "")
    assert (on.status, "tag" in on.json["meta"]) == (200, False)
    assert (await client.put("/Pump/a", body)).status == 200


async def test_it_is_an_event_and_said_twice_it_is_none(client: Client) -> None:
    await client.define("Pump", meta={"tag": [{"code": "kept"}]})
    tip = await client.tip()
    assert (await client.post("/fhir/Entity/Pump/$deactivate", "")).version == tip + 1
    assert (await client.post("/Entity/Pump/$deactivate", "")).version == tip + 1
    assert await client.tip() == tip + 1
    found = await client.post("/Entity/Pump/$activate", "")
    assert found.json["meta"]["tag"] == [{"code": "kept"}]
    history = await client.get("/Entity/Pump/_history")
    assert history.json["total"] == 3


async def test_if_match_holds(client: Client) -> None:
    made = await client.define("Pump")
    await client.define("Other")
    off = await client.post("/Entity/Pump/$deactivate", "", If_Match=f'W/"{made.version}"')
    assert off.status == 200
    assert (await client.post("/Entity/Pump/$activate", "", If_Match=f'W/"{made.version}"')).status == 412


async def test_only_definitions_of_resource_types(client: Client) -> None:
    await client.post("/Entity", {"id": "Dose", "type": "type"})
    await client.define("Pump")
    for path, status in (
        ("/Entity/Dose", 409),
        ("/Entity/Quantity", 404),
        ("/Entity/Nobody", 404),
        ("/FHIRSchema/Pump", 404),
        ("/Pump/x", 404),
    ):
        assert (await client.post(f"{path}/$deactivate", "")).status == status, path


async def test_nothing_is_accepted_after_it(client: Client) -> None:
    await client.define("Pump")

    async def write(n: int) -> list[int]:
        replies = [await client.put(f"/Pump/p{n}", {"n": round}) for round in range(20)]
        assert {reply.status for reply in replies} <= {200, 201, 409}
        return [reply.version for reply in replies if reply.status < 300]

    writes = [asyncio.ensure_future(write(n)) for n in range(32)]
    await asyncio.wait(writes, timeout=0.1)
    off = await client.post("/Entity/Pump/$deactivate", "")
    assert all(version < off.version for versions in await asyncio.gather(*writes) for version in versions)


@pytest.mark.parametrize("backend", ["postgres"])
async def test_it_holds_on_the_other_node_at_once(settings: Settings, backend: str) -> None:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        one, other = [Client(session, await stack.enter_async_context(serving(settings))) for _ in range(2)]
        await one.define("Pump")
        assert (await other.put("/Pump/a", {})).status == 201
        assert (await one.post("/Entity/Pump/$deactivate", "")).status == 200
        assert (await other.put("/Pump/a", {})).status == 409
        assert (await other.post("/Entity/Pump/$activate", "")).status == 200
        assert (await one.put("/Pump/a", {})).status == 200
