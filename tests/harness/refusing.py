"""Bad input over HTTP: two types to try it on, and what every refusal has."""

from __future__ import annotations

from typing import Any

from harness.client import Client, Reply


async def define_two(client: Client) -> None:
    """UserSetting, which is open, and Strict, which has a count, an amount and a date."""
    await client.define()
    await client.define("Strict", isOpen=False)
    for name, type in (("count", "integer"), ("amount", "decimal"), ("born", "date")):
        attribute = {
            "id": f"Strict.{name}",
            "path": [name],
            "type": {"id": type, "resourceType": "Entity"},
            "resource": {"id": "Strict", "resourceType": "Entity"},
        }
        assert (await client.post("/Attribute", attribute)).status == 201


async def refused(
    client: Client, status: int, word: str, method: str, path: str, body: Any = None, **headers: str
) -> Reply:
    """The request is refused with the status and a message that has the word, and nothing is written."""
    before = await client.tip()
    reply = await client.request(method, path, body, **headers)
    assert reply.status == status, (reply.status, reply.data[:500])
    outcome = reply.json
    assert outcome["resourceType"] == "OperationOutcome"
    assert any(word in message for message in reply.messages), (word, reply.messages)
    assert reply.headers["X-Request-Id"]
    assert await client.tip() == before
    return reply
