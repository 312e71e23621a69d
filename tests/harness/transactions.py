"""A FHIR transaction Bundle posted to `/`, for the server under test: what the store can do and HTTP does not offer yet."""

from __future__ import annotations

from typing import Any

import msgspec

from eventstore.batch import admit
from eventstore.body import read
from eventstore.command import Command
from eventstore.server import app
from eventstore.server.call import Answer, Call, Streamed, answer
from eventstore.server.negotiation import precondition


def install() -> None:
    """Answer bundles at `/`, and everything else there as before."""
    root = app.HANDLERS["root"]

    async def transaction(call: Call) -> Answer | Streamed:
        if call.request.method != "POST":
            return await root(call)
        entries = (await call.document()).value["entry"]
        commands = [await _command(call, entry) for entry in entries]
        accepted = await call.store._writer.submit(*commands)
        told = [{"response": {"status": "200", "etag": f'W/"{one.position}"'}} for one in accepted]
        return answer({"resourceType": "Bundle", "type": "transaction-response", "entry": told})

    app.HANDLERS["root"] = transaction


async def _command(call: Call, entry: dict[str, Any]) -> Command:
    asked = entry["request"]
    type, _, id = asked["url"].partition("/")
    kind = await call.store.kind(type)
    registry = call.store.registry
    sent = read(msgspec.json.encode(entry["resource"]))
    document, body, _ = admit(registry, kind, sent, id, short_references=True)
    return Command(
        asked["method"],
        type,
        id,
        call.context(),
        document=document,
        body=body,
        checked=registry.position,
        precondition=precondition(asked.get("ifMatch"), asked.get("ifNoneMatch")),
    )
