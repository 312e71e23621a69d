"""A store with projections of a test's own over a log, in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Self

from eventstore.body import read
from eventstore.command import Accepted, Command
from eventstore.feed import Feed
from eventstore.follower import Standing
from eventstore.log.opening import Place, open_log
from eventstore.membership import Membership
from eventstore.projection import Projection
from eventstore.server.times import now
from eventstore.store import Store
from eventstore.writer import Writer
from projections.engine import Engine

OPEN = b'{"resourceType":"Entity","id":"Thing","type":"resource","isOpen":true}'
SECONDS_MAX = 20


class Running:
    """The parts as the server puts them together."""

    def __init__(self, place: Place, *projections: Projection) -> None:
        self.place = place
        self.projections = projections

    async def __aenter__(self) -> Self:
        self.log = await open_log(self.place)
        self.members = Membership(self.log)
        self.engine = Engine(self.log, self.members, self.projections)
        self.writer = Writer(self.log, self.engine.project, now)
        self.store = Store(self.log, self.writer, Feed(self.log))
        try:
            await self.members.start()
            await self.engine.start(self.writer.reached)
            await self.writer.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.writer.stop()
        await self.engine.stop()
        await self.members.stop()
        await self.log.close()

    async def fill(self, count: int) -> None:
        """Define Thing, and write and delete a handful of them."""
        await self.define()
        for n in range(count):
            await self.put(f"r{n % 7}", n=n)
            if n % 5 == 0:
                await self.delete(f"r{n % 7}")

    async def define(self) -> None:
        await self.store.submit(Command("PUT", "Entity", "Thing", b"{}", read(OPEN)))

    async def put(self, id: str, **body: Any) -> Accepted:
        return await self.store.submit(Command("PUT", "Thing", id, b"{}", read(json.dumps(body).encode())))

    async def delete(self, id: str) -> Accepted:
        return await self.store.submit(Command("DELETE", "Thing", id, b"{}"))

    async def paint(self, *colours: str | None) -> list[int]:
        """Paint t0, t1, t2, t0 ... or, with None, delete it; the positions."""
        done = [
            await (self.put(f"t{n % 3}", colour=colour) if colour else self.delete(f"t{n % 3}"))
            for n, colour in enumerate(colours)
        ]
        return [one.position or 0 for one in done]

    async def rows(self, *tables: str) -> list[list[tuple[Any, ...]]]:
        return await self.log.rows(*((f"SELECT * FROM {table} ORDER BY 1, 2", ()) for table in tables))

    async def standing(self, name: str = "colours", at: str = "") -> Standing:
        """How a follower stands."""
        return {one.name: one for one in await self.engine.standings(at or now())}[name]

    async def until(self, reached: Callable[[Standing], bool], name: str = "colours") -> Standing:
        """Wait until a follower stands like that."""
        async with asyncio.timeout(SECONDS_MAX):
            while not reached(found := await self.standing(name)):
                await asyncio.sleep(0.005)
        return found

    async def settled(self) -> None:
        """Wait until the async projections are at the tip."""
        for name in self.engine.followers:
            await self.until(lambda one: one.state == "following" and one.lag_events == 0, name)
