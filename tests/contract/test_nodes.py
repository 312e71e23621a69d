"""The contract of `Nodes`, over every backend; and of what a node makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from harness.stream import until

from eventstore.errors import Conflict
from eventstore.log.base import EventLog, Node, Owned
from eventstore.log.opening import Place, open_log
from eventstore.membership import Membership

ONE, TWO = Node("one", "http://one", 7), Node("two", "", 9)
LONG, SHORT = 60.0, 0.05


@pytest.fixture
async def log(place: Place) -> AsyncIterator[EventLog]:
    opened = await open_log(place)
    yield opened
    await opened.close()


async def test_what_is_free_is_owned_by_who_wants_it_first(log: EventLog) -> None:
    roll = await log.nodes.beat(ONE, {"a": 1, "b": 2}, LONG)
    assert list(roll.nodes) == [ONE]
    assert roll.owners == {"a": Owned("one", 1), "b": Owned("one", 2)}
    roll = await log.nodes.beat(TWO, {"b": 0, "c": 3}, LONG)
    assert list(roll.nodes) == [ONE, TWO]
    assert roll.owners == {"a": Owned("one", 1), "b": Owned("one", 2), "c": Owned("two", 3)}
    assert await log.nodes.roll() == roll


async def test_a_beat_renews_and_says_how_far(log: EventLog) -> None:
    await log.nodes.beat(ONE, {"a": 1}, LONG)
    later = Node("one", "http://one", 8)
    roll = await log.nodes.beat(later, {"a": 5}, LONG)
    assert (list(roll.nodes), roll.owners) == ([later], {"a": Owned("one", 5)})


async def test_what_is_wanted_no_more_is_free(log: EventLog) -> None:
    await log.nodes.beat(ONE, {"a": 1, "b": 1}, LONG)
    assert set((await log.nodes.beat(ONE, {"b": 1}, LONG)).owners) == {"b"}
    assert (await log.nodes.beat(TWO, {"a": 4}, LONG)).owners["a"] == Owned("two", 4)


async def test_who_leaves_owns_nothing(log: EventLog) -> None:
    await log.nodes.beat(ONE, {"a": 1}, LONG)
    await log.nodes.leave("one")
    roll = await log.nodes.beat(TWO, {"a": 2}, LONG)
    assert (list(roll.nodes), roll.owners) == ([TWO], {"a": Owned("two", 2)})
    await log.nodes.leave("nobody")


async def test_who_does_not_beat_is_taken_for_dead(log: EventLog) -> None:
    await log.nodes.beat(ONE, {"a": 1}, SHORT)

    async def taken() -> bool:
        return (await log.nodes.beat(TWO, {"a": 2}, LONG)).owners.get("a") == Owned("two", 2)

    await until(taken)
    roll = await log.nodes.beat(ONE, {"a": 3}, LONG)  # who comes back finds that another has it
    assert (list(roll.nodes), roll.owners) == ([ONE, TWO], {"a": Owned("two", 2)})


async def test_of_many_that_want_the_same_one_has_it(place: Place, log: EventLog) -> None:
    logs = [await open_log(place) for _ in range(4)] if place.db else [log] * 4
    nodes = [Node(f"n{n}", "", 0) for n in range(4)]
    rolls = await asyncio.gather(
        *(one.nodes.beat(node, {"a": 0, "b": 0}, LONG) for one, node in zip(logs, nodes, strict=True))
    )
    final = (await log.nodes.roll()).owners
    for roll in rolls:
        assert all(roll.owners[name] == final[name] for name in ("a", "b"))
    if place.db:
        for one in logs:
            await one.close()


async def test_a_node_takes_over_from_who_stopped(log: EventLog) -> None:
    first, second = Membership(log, "http://first"), Membership(log)
    await first.start()
    await second.start()
    mine, other = first.lease("a"), second.lease("a")
    await first.beat()
    await second.beat()
    assert (mine.held, other.held, other.owner) == (True, False, first.id)
    assert [node.url for node in second.others] == ["http://first"]
    done = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            done.set()

    await mine.until(held=True)
    working = asyncio.create_task(mine.during(work()))
    await first.stop()
    await second.beat()
    assert (other.held, other.owner) == (True, second.id)
    await first.beat()  # as one that was stopped for a while and goes on
    await working
    assert done.is_set()
    assert (mine.held, mine.owner) == (False, second.id)
    await second.stop()


async def test_owning_for_a_while(log: EventLog) -> None:
    first, second = Membership(log), Membership(log)
    async with first.owning("rebuild"):
        with pytest.raises(Conflict, match=first.id):
            async with second.owning("rebuild"):
                raise AssertionError
    async with second.owning("rebuild"):
        assert (await log.nodes.roll()).owners["rebuild"].node == second.id
    assert (await log.nodes.roll()).owners == {}
