"""Names of types over HTTP, on both backends: Prefixes, warnings, `resourceDefinition`, and Basic."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from harness.client import Client, Reply

from eventstore.server.app import serving
from eventstore.server.settings import Settings

PREFIX = {"organization": "Acme", "contact": [{"name": "Ann"}], "status": "active"}
ENTITY = {"type": "resource", "isOpen": True}


async def define(client: Client, name: str, **more: Any) -> Reply:
    return await client.put(f"/Entity/{name}", {**ENTITY, **more})


async def test_without_a_prefix_any_name_may_be(client: Client) -> None:
    assert (await client.put("/Prefix/acme", {**PREFIX, "status": "draft"})).status == 201
    assert {(await define(client, name)).status for name in ("Pump", "acme-Pump", "other.Pump")} == {201}


async def test_while_one_is_active_new_names_have_one(client: Client) -> None:
    await define(client, "Old")
    assert (await client.put("/Prefix/acme", PREFIX)).status == 201
    refused = await define(client, "Pump")
    assert (refused.status, refused.messages) == (
        422,
        [
            "Pump has no prefix: while there are active Prefixes (acme), a type is called like acme-Pump",
        ],
    )
    assert (await define(client, "other-Pump")).messages == [
        "there is no active Prefix other: PUT /Prefix/other with status active first"
    ]
    assert {(await define(client, name)).status for name in ("acme-Pump", "acme.Tray")} == {201}
    assert (await define(client, "Old", description="still there")).status == 200
    assert (await client.put("/Old/x", {})).status == 201
    shadow = await define(client, "Device", meta={"tag": [{"code": "shadows-core"}]})
    assert shadow.status == 201
    for status in ("retired", "active"):
        await client.put("/Prefix/acme", {**PREFIX, "status": status})
    await client.delete("/Prefix/acme")
    assert (await define(client, "Pump")).status == 201


async def test_the_other_formats_are_held_to_it(client: Client) -> None:
    await client.put("/Prefix/acme", PREFIX)
    about = {
        "url": "http://example.org/Pump",
        "name": "Pump",
        "kind": "resource",
        "derivation": "specialization",
    }
    refused = await client.put("/FHIRSchema/Pump", {**about, "base": "Resource"})
    assert refused.status == 422
    made = await client.put("/FHIRSchema/acme-Pump", {**about, "type": "acme-Pump", "base": "Resource"})
    assert made.status == 201, made.data


async def test_it_holds_by_position(client: Client) -> None:
    """Types that are defined while the Prefix comes: those after it have it."""
    names = [f"T{n}" for n in range(40)]
    writes = [asyncio.ensure_future(define(client, name)) for name in names]
    prefix = await client.put("/Prefix/acme", PREFIX)
    replies = await asyncio.gather(*writes)
    assert all(one.version < prefix.version for one in replies if one.status == 201)
    assert all(one.status in (201, 422) for one in replies)


@pytest.mark.parametrize("backend", ["postgres"])
async def test_it_holds_on_every_node(settings: Settings, backend: str) -> None:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        one, other = [Client(session, await stack.enter_async_context(serving(settings))) for _ in range(2)]
        await one.put("/Prefix/acme", PREFIX)
        assert (await define(other, "Pump")).status == 422
        await other.put("/Prefix/zeta", PREFIX)
        assert (await define(one, "zeta-Pump")).status == 201


async def test_what_is_no_prefix(client: Client) -> None:
    assert (await client.put("/Prefix/a-b", PREFIX)).status == 422
    await client.put("/Prefix/acme", PREFIX)
    assert (await client.put("/Prefix/ACME", PREFIX)).status == 409
    assert (await client.put("/Prefix/other", {"status": "active"})).messages == ["is required"]


async def test_what_will_not_interoperate_is_warned_of(client: Client) -> None:
    asked = {"Prefer": "return=OperationOutcome"}
    dose = await client.put("/Entity/Dose", {"type": "type"}, **asked)
    assert (dose.status, dose.headers["X-Quire-Warnings"]) == (201, "1")
    assert dose.json["warnings"][0]["message"] == (
        "Dose is a data type of your own, which FHIR does not allow: others cannot read resources that use it"
    )
    shadow = await client.put(
        "/Entity/Device", {**ENTITY, "meta": {"tag": [{"code": "shadows-core"}]}}, **asked
    )
    assert shadow.json["warnings"][0]["message"] == (
        "Device is FHIR 4.0.1's name for something else: others take your resources for that"
    )
    assert "X-Quire-Warnings" not in (await define(client, "Pump")).headers
    assert "X-Quire-Warnings" not in (await client.put("/Entity/Dose", {"type": "type", "text": "x"})).headers


async def test_resource_definition_is_taken_and_checked(client: Client) -> None:
    url = "http://example.org/StructureDefinition/Pump"
    about = {
        "url": url, "name": "Pump", "kind": "resource", "derivation": "specialization", "base": "Resource",
        "version": "2.0.0",
    }  # fmt: skip
    assert (await client.put("/FHIRSchema/Pump", about)).status == 201
    for right in (url, f"{url}|2.0.0"):
        body = {"resourceType": "Pump", "id": "a", "resourceDefinition": right}
        made = await client.put("/fhir/Pump/a", body)
        assert (made.status, made.json["resourceDefinition"]) in ((201, right), (200, right))
    for wrong in ("http://example.org/Other", f"{url}|1.0.0"):
        refused = await client.put("/Pump/a", {"resourceDefinition": wrong})
        assert refused.messages == [f"expected one of {url}, {url}|2.0.0"]


async def test_basic_is_served_from_the_start(client: Client) -> None:
    body = {"resourceType": "Basic", "code": {"text": "referral"}, "subject": {"reference": "Patient/p"}}
    made = await client.post("/fhir/Basic", {**body, "extension": [{"url": "http://x", "valueString": "y"}]})
    assert made.status == 201, made.data
    assert (await client.post("/fhir/Basic", {"resourceType": "Basic"})).messages == ["is required"]
    assert (await client.post("/Basic", {**body, "author": {"reference": "Pump/p"}})).status == 422
