"""`$batch-validate` over HTTP, on both backends: stored resources against the definition as it is now."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest
from harness.client import Client, Reply

from eventstore.server.app import serving
from eventstore.server.batch_validating import TASKS_RUNNING_MAX
from eventstore.server.settings import Settings

ASYNC = {"Prefer": "respond-async"}
SECONDS_MAX = 60


def values(reply: Reply) -> dict[str, Any]:
    """The simple ones of Parameters."""
    return {
        one["name"]: value
        for one in reply.json["parameter"]
        for key, value in one.items()
        if key.startswith("value")
    }


def listed(reply: Reply) -> dict[str, list[str]]:
    """The versions that do not fit, and what is said of each."""
    return {
        one["part"][0]["valueString"]: [issue["diagnostics"] for issue in one["part"][1]["resource"]["issue"]]
        for one in reply.json["parameter"]
        if one["name"] == "resource"
    }


async def pumps(client: Client, count: int = 3) -> dict[str, int]:
    """Pumps of which every other does not fit any more; the versions of those."""
    await client.define("Pump")
    wrong = {}
    for n in range(count):
        made = await client.put(f"/Pump/p{n}", {"serial": 7 if n % 2 else "A-7"})
        if n % 2:
            wrong[f"p{n}"] = made.version
    about = {"resource": {"id": "Pump"}, "path": ["serial"], "type": {"id": "string"}}
    assert (await client.post("/Attribute", about)).status == 201
    return wrong


async def done(client: Client, begun: Reply) -> Reply:
    """The end of a task."""
    assert begun.status == 202
    path = begun.headers["Content-Location"].removeprefix(client.url)
    async with asyncio.timeout(SECONDS_MAX):
        while (found := await client.get(path)).status == 202:
            assert " of " in found.headers["X-Progress"]
    return found


async def test_it_lists_the_versions_that_do_not_fit(client: Client) -> None:
    wrong = await pumps(client)
    for base in ("", "/fhir"):
        found = await client.post(f"{base}/Pump/$batch-validate", "")
        assert found.status == 200
        about = values(found)
        assert (about["type"], about["validated"], about["valid"], about["invalid"]) == ("Pump", 3, 2, 1)
        assert listed(found) == {f"Pump/p1/_history/{wrong['p1']}": ["expected type of string"]}


async def test_behind_the_answer_it_is_the_same(client: Client) -> None:
    await pumps(client, 9)
    waited = await client.post("/fhir/Pump/$batch-validate", "")
    begun = await client.post("/fhir/Pump/$batch-validate", "", **ASYNC)
    assert "/fhir/$batch-validate/" in begun.headers["Content-Location"]
    found = await done(client, begun)
    assert (found.status, found.json) == (200, waited.json)


async def test_a_delete_ends_and_forgets_it(client: Client) -> None:
    await pumps(client)
    begun = await client.post("/Pump/$batch-validate", "", **ASYNC)
    path = begun.headers["Content-Location"].removeprefix(client.url)
    assert (await client.delete(path)).status == 202
    for reply in (await client.get(path), await client.delete(path)):
        assert (reply.status, "it was ended, or forgotten" in said(reply)) == (404, True)


def said(reply: Reply) -> str:
    """Of an OperationOutcome, the first."""
    return str(reply.json["issue"][0]["diagnostics"])


@pytest.mark.parametrize("backend", ["postgres"])
@pytest.mark.parametrize("shared", ["", "http://quire.example/"])
async def test_another_node_says_whose_it_is(settings: Settings, shared: str) -> None:
    """And where to ask for it, unless all nodes are behind one address."""
    settings = msgspec.structs.replace(settings, base_url=shared)
    async with serving(settings) as other_url, aiohttp.ClientSession() as session:
        other = Client(session, other_url)
        async with serving(settings) as url:
            client = Client(session, url)
            await pumps(client)
            begun = await client.post("/fhir/Pump/$batch-validate", "", **ASYNC)
            path = begun.headers["Content-Location"].removeprefix(shared.rstrip("/") or url)
            for reply in (await other.get(path), await other.delete(path)):
                where = f"ask again, as {shared} leads to several nodes" if shared else f"ask {url}{path}"
                assert (reply.status, said(reply).rpartition("alone can tell of it: ")[2]) == (404, where)
            if not shared:
                assert (await done(client, begun)).status == 200
        gone = await other.get(path)
        assert (gone.status, "ends with the node that began it; begin it again" in said(gone)) == (404, True)


async def test_only_some_run_at_once(client: Client) -> None:
    await pumps(client, 150)
    asked = [
        client.post("/Pump/$batch-validate", "", Prefer="respond-async") for _ in range(3 * TASKS_RUNNING_MAX)
    ]
    replies = await asyncio.gather(*asked)
    assert {reply.status for reply in replies} <= {202, 429}
    for reply in replies:
        if reply.status == 202:
            assert (await done(client, reply)).status == 200


async def test_since_until_and_profile(client: Client) -> None:
    await pumps(client)
    at = (await client.get("/Pump/p1")).json["meta"]["lastUpdated"]
    before = await client.post(f"/Pump/$batch-validate?_until={at}", "")
    after = await client.post(f"/Pump/$batch-validate?_since={at}", "")
    assert values(before)["invalid"] == 0
    assert values(after)["invalid"] == 1
    assert values(before)["validated"] + values(after)["validated"] == 3
    parameters = {
        "resourceType": "Parameters",
        "parameter": [{"name": "profile", "valueUri": "http://example.org/p"}],
    }
    found = await client.post("/Pump/$batch-validate", parameters)
    assert values(found)["invalid"] == 3
    assert all(
        "the profile http://example.org/p is not known here" in said for said in listed(found).values()
    )


async def test_what_cannot_be_asked(client: Client) -> None:
    await pumps(client)
    assert (await client.post("/Nobody/$batch-validate", "")).status == 404
    assert (await client.post("/Pump/$batch-validate?_since=soon", "")).status == 400
    assert (await client.post("/Pump/$batch-validate", {"resourceType": "Pump"})).status == 400
    assert (await client.get("/Pump/$batch-validate")).status == 405
    for odd in (5, ["x"], [{"name": 5}], [{"name": "_since"}]):
        body = {"resourceType": "Parameters", "parameter": odd}
        assert values(await client.post("/Pump/$batch-validate", body))["validated"] == 3
