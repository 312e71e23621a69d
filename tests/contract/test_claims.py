"""Claims in the log, over every backend: how often it is asked, transactions, and logs that were copied."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from conftest import NewPlace
from harness.running import Running

from eventstore.body import read
from eventstore.claiming import forget
from eventstore.claims import CLAIMS
from eventstore.command import Accepted, Command
from eventstore.errors import Conflict
from eventstore.log.base import KEPT_INLINE, Identity
from eventstore.log.opening import Place, open_log
from eventstore.server.copying import copy

UNIQUE: dict[str, Any] = {
    "resource": {"id": "Thing"}, "path": ["n"], "type": {"id": "integer"}, "isUnique": True,
}  # fmt: skip


def thing(id: str, n: int) -> Command:
    return Command("PUT", "Thing", id, b"{}", read(b'{"n":%d}' % n))


async def define(running: Running) -> None:
    await running.define()
    body = read(json.dumps(UNIQUE).encode())
    await running.store.submit(Command("PUT", "Attribute", "Thing.n", b"{}", body))


class Counting:
    """A log that counts what it is asked."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.asked[name] += 1
        return getattr(self._log, name)


def counted(running: Running) -> Counting:
    """What the writer asks the log from now on, when nothing but batches makes it ask."""
    assert running.writer._watch is not None
    running.writer._watch.cancel()
    counting = Counting(running.log)
    running.writer._log = running.writer._decider._log = counting  # type: ignore[assignment]
    return counting


@pytest.mark.parametrize("count", [2, 100])
async def test_a_batch_asks_once_whatever_it_has(place: Place, count: int) -> None:
    async with Running(place) as running:
        await define(running)
        counting = counted(running)
        done = [running.store.queue(thing(f"t{n}", n)) for n in range(count)]
        await asyncio.gather(*done)
        assert counting.asked == {"take": 1, "look": 1, "rows": 1, "dialect": 1, "append": 1}
        running.writer._log = running.writer._decider._log = running.log


async def test_a_batch_of_a_type_without_asks_nothing(place: Place) -> None:
    async with Running(place) as running:
        await running.define()
        counting = counted(running)
        await running.put("t", n=1)
        assert counting.asked == {"take": 1, "look": 1, "append": 1}
        running.writer._log = running.writer._decider._log = running.log


async def test_what_was_checked_before_its_place_became_unique_claims_in_its_turn(place: Place) -> None:
    async with Running(place) as running:
        await running.define()
        unique = Command("PUT", "Attribute", "Thing.n", b"{}", read(json.dumps(UNIQUE).encode()))
        waiting = [running.store.queue(one) for one in (unique, thing("a", 1), thing("b", 1), thing("c", 2))]
        _, (first,), refusal, (other,) = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(refusal, Conflict)
        assert "n is unique, and 1 is that of Thing/a" in str(refusal)
        assert (json.loads(first.data)["n"], json.loads(other.data)["n"]) == (1, 2)


async def test_a_transaction_that_is_refused_claims_nothing(place: Place) -> None:
    async with Running(place) as running:
        await define(running)
        await running.put("old", n=1)

        def both(*commands: Command) -> asyncio.Future[list[Accepted]]:
            return running.writer.submit(*commands)

        refused, taken = both(thing("a", 7), thing("b", 1)), both(thing("c", 7), thing("old", 8))
        with pytest.raises(Conflict, match="n is unique, and 1 is that of Thing/old"):
            await refused
        assert [one.action for one in await taken] == ["created", "updated"]
        assert [one.action for one in await both(thing("old", 9), thing("a", 8))] == ["updated", "created"]


async def test_a_log_that_was_copied_knows_its_claims(place: Place, new_place: NewPlace) -> None:
    async with Running(place) as running:
        await define(running)
        for n in range(5):
            await running.put(f"t{n}", n=n)
        await running.put("t0", n=100)
        tip = await running.log.tip()
        target = await new_place()
        identity = Identity(running.log.id, running.log.fhir_version, running.log.created)
        log = await open_log(target, copy_of=identity)
        try:
            await copy(running.log, log, tip, lambda _: None)
        finally:
            await log.close()
    async with Running(target) as running:
        assert (await running.put("t0", n=0)).action == "updated"
        with pytest.raises(Conflict, match="4 is that of Thing/t4"):
            await running.put("new", n=4)


async def test_what_was_appended_past_the_writer_is_found_at_the_next_start(place: Place) -> None:
    async with Running(place) as running:
        await define(running)
        await running.put("t1", n=1)
        await forget(running.log)
        await running.log.discard()
    async with Running(place) as running:
        assert await running.log.checkpoint(CLAIMS) == KEPT_INLINE
        with pytest.raises(Conflict, match="1 is that of Thing/t1"):
            await running.put("t2", n=1)
