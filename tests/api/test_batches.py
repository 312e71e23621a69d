"""How much a commit takes on: what is still to be checked is checked while the log is held. On both backends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from harness.client import Client

from eventstore import writer
from eventstore.deciding import Decided, Decider, Transaction, commands_of

TOGETHER = 32
UNCHECKED_MAX = 4


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Those that were decided: the types of their commands."""
    noted: list[list[str]] = []
    decide = Decider.decide

    async def noting(self: Decider, transactions: Sequence[Transaction], *about: Any) -> Decided:
        noted.append([command.type for command in commands_of(transactions)])
        return await decide(self, transactions, *about)

    monkeypatch.setattr(Decider, "decide", noting)
    monkeypatch.setattr(writer, "BATCH_UNCHECKED_MAX", UNCHECKED_MAX)
    return noted


async def test_a_batch_has_few_that_are_still_to_be_checked(client: Client, batches: list[list[str]]) -> None:
    await client.define("Pump")
    names = [f"/Pump/p{n}" for n in range(TOGETHER)]
    writes = await asyncio.gather(*(client.put(name, {"n": 1}) for name in names))
    assert {reply.status for reply in writes} == {201}
    assert max(map(len, batches)) > UNCHECKED_MAX, "these were checked before"
    del batches[:]
    writes = await asyncio.gather(*(client.patch(name, {"n": 2}) for name in names))
    assert {reply.status for reply in writes} == {200}
    assert max(map(len, batches)) <= UNCHECKED_MAX


async def test_after_a_definition_all_are_to_be_checked(client: Client, batches: list[list[str]]) -> None:
    await client.define("Pump")
    del batches[:]
    definition = client.post("/Entity", {"id": "Valve", "type": "resource", "isOpen": True})
    replies = await asyncio.gather(definition, *(client.post("/Pump", {"n": n}) for n in range(TOGETHER)))
    assert {reply.status for reply in replies} == {201}
    (types,) = (one for one in batches if "Entity" in one)
    assert len(types) - types.index("Entity") <= UNCHECKED_MAX
