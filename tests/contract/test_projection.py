"""The contract of projections: built late, behind or inline, in whatever cuts, the rows are the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

import pytest
from harness import checkers

from eventstore.body import read
from eventstore.command import Command
from eventstore.errors import Conflict
from eventstore.feed import Feed
from eventstore.log.base import KEPT_INLINE
from eventstore.log.opening import Place, open_log
from eventstore.projection import Change, Projection, Rows
from eventstore.server.times import now
from eventstore.store import Store
from eventstore.writer import Writer
from projections.current import CURRENT, TOTAL, Current
from projections.engine import Engine
from projections.views import Views

NewPlace = Callable[[], Awaitable[Place]]
OPEN = b'{"resourceType":"Entity","id":"Thing","type":"resource","isOpen":true}'


class Running:
    """A store with the projections given, over a log."""

    def __init__(self, place: Place, *projections: Projection) -> None:
        self.place = place
        self.projections = projections

    async def __aenter__(self) -> Self:
        self.log = await open_log(self.place)
        self.engine = Engine(self.log, self.projections)
        self.writer = Writer(self.log, self.engine.project, now)
        self.store = Store(self.log, self.writer, Feed(self.log))
        await self.engine.start(self.writer.reached)
        await self.writer.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.writer.stop()
        await self.engine.stop()
        await self.log.close()

    async def fill(self, count: int) -> None:
        await self.store.submit(Command("PUT", "Entity", "Thing", b"{}", read(OPEN)))
        for n in range(count):
            command = Command("PUT", "Thing", f"r{n % 7}", b"{}", read(f'{{"n":{n}}}'.encode()))
            await self.store.submit(command)
            if n % 5 == 0:
                await self.store.submit(Command("DELETE", "Thing", f"r{n % 7}", b"{}"))

    async def rows(self, *tables: str) -> list[list[tuple[Any, ...]]]:
        return await self.log.rows(*((f"SELECT * FROM {table} ORDER BY 1, 2", ()) for table in tables))


async def settled(running: Running) -> None:
    """Wait until the async projections are at the tip."""
    tip = (await running.log.tip()).position
    async with asyncio.timeout(10):
        while any([await running.log.checkpoint(one.name) != tip for one in running.engine.followers]):
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("projection", [Current(), Views()])
def test_a_projection_is_pure_and_may_be_cut_anywhere(projection: Projection) -> None:
    from eventstore.decide import Previous
    from eventstore.event import Header, seal

    changes, last = [], None
    for position, action in enumerate(["created", "updated", "deleted", "created"], 1):
        data = None if action == "deleted" else b'{"type":"resource"}'
        header = Header(position, "Entity", "Thing", action, "t", position, 0, "PUT", "Entity/Thing")
        event = seal(header, data, b"{}", b"s" * 16, b"")
        changes.append(Change(event, last))
        last = Previous(position, action, "t", data)
    whole, again = Rows(), Rows()
    projection.project(changes, whole)
    for change in changes:
        projection.project([change], again)
    for name in ("upserts", "deletes", "sums", "views"):
        assert getattr(whole, name) == getattr(again, name)


async def test_inline_async_and_rebuilt_are_the_same(place: Place, new_place: NewPlace) -> None:
    async with Running(place, Current(), Views()) as inline:
        await inline.fill(40)
        wanted = await inline.rows(CURRENT.name, TOTAL.name)
        events = await checkers.events_of(inline.log)
        await checkers.replayable(inline.log, events)
        assert await inline.log.checkpoint("current") == KEPT_INLINE

    async with Running(await new_place(), Current("async")) as behind:
        await behind.fill(40)
        await settled(behind)
        assert await behind.rows(CURRENT.name, TOTAL.name) == wanted

    class Newer(Current):
        version = 2

    async with Running(place, Newer(), Views()) as rebuilt:
        assert await rebuilt.rows(CURRENT.name, TOTAL.name) == wanted
        await rebuilt.fill(3)
        await checkers.replayable(rebuilt.log, await checkers.events_of(rebuilt.log))


async def test_an_async_projection_goes_on_from_its_checkpoint(place: Place) -> None:
    async with Running(place, Current("async")) as first:
        await first.fill(10)
        await settled(first)
    async with Running(place, Current("async")) as second:
        await second.fill(10)
        await settled(second)
        await checkers.replayable(second.log, await checkers.events_of(second.log))


async def test_a_second_owner_of_a_projection_is_harmless(place: Place) -> None:
    """The checkpoint is guarded: who finds it moved stops, and its rows are not written."""
    async with Running(place, Current("async")) as running:
        await running.fill(5)
        await settled(running)
        (follower,) = running.engine.followers
        follower.position -= 2
        await running.fill(1)
        with pytest.raises(Conflict, match="moved"):
            await _ended(running)
        await checkers.replayable(
            running.log, (await checkers.events_of(running.log))[: await running.log.checkpoint("current")]
        )
        running.engine.followers.clear()


async def _ended(running: Running) -> None:
    (follower,) = running.engine.followers
    assert follower._task is not None
    async with asyncio.timeout(10):
        await asyncio.shield(follower._task)
