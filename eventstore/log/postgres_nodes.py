"""The nodes of a log on PostgreSQL: their beats, what they own, and what they tell each other, on a session of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from asyncpg import Connection

from eventstore.errors import Unavailable
from eventstore.event import Position
from eventstore.log import postgres_session as session
from eventstore.log.base import AppendFailed, Node, Owned, Roll
from eventstore.log.sql import queries

BEAT_SECONDS_MAX = 3.0
"""How long a beat may take, before its session is given up."""
TELL_SECONDS = 0.02
"""Between two messages to other nodes, at least."""

_SQL = queries("eventstore.log.sql", "postgres")
_LEFT = "left"


class PostgresNodes:
    """See `Nodes`. The session is made when it is first needed; nothing of an append is asked on it.

    A node is told of appends by NOTIFY: after the commit, for many appends once, and only when there is another node.
    """

    def __init__(self, url: str) -> None:
        self.channel = ""
        """Where the nodes of this log hear each other."""
        self._url = url
        self._connection: Connection | None = None
        self._asked = asyncio.Lock()
        self._others = False
        self._untold: Position = 0
        self._telling: asyncio.Task[None] | None = None
        self._heard: Callable[[Position], None] = _unheard
        self._left: Callable[[], None] = _unheard

    async def beat(self, node: Node, wanted: Mapping[str, Position], lease_seconds: float) -> Roll:
        names = sorted(wanted)
        positions = [wanted[name] for name in names]
        async with self._session() as connection:
            await connection.execute(
                _SQL["beat"], node.id, node.url, node.position, names, positions, lease_seconds
            )
            roll = await _roll(connection)
        self._others = len(roll.nodes) > 1
        return roll

    async def leave(self, node: str) -> None:
        async with self._session() as connection:
            await connection.execute(_SQL["leave"], node)
            await connection.execute(_SQL["notify"], self.channel, _LEFT)

    async def roll(self) -> Roll:
        async with self._session() as connection:
            return await _roll(connection)

    def on_append(self, heard: Callable[[Position], None]) -> None:
        self._heard = heard

    def on_leave(self, heard: Callable[[], None]) -> None:
        self._left = heard

    def appended(self, position: Position) -> None:
        """Tell other nodes soon."""
        self._untold = position
        if self._others and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell(), name="quire-wake")

    async def close(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait([self._telling])
        if self._connection is not None:
            self._connection.terminate()
        self._connection = None

    async def _tell(self) -> None:
        """Until everything is told. What cannot be told, other nodes find by looking."""
        told: Position = 0
        while told < self._untold:
            told = self._untold
            with suppress(Unavailable, AppendFailed):
                async with self._session() as connection:
                    await connection.execute(_SQL["notify"], self.channel, str(told))
            await asyncio.sleep(TELL_SECONDS)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Connection]:
        """The session, for one at a time. It is given up when something goes wrong on it."""
        async with self._asked:
            try:
                async with asyncio.timeout(BEAT_SECONDS_MAX):
                    with session.database_errors():
                        if self._connection is None or self._connection.is_closed():
                            self._connection = await session.connect(self._url)
                            await self._connection.add_listener(self.channel, self._news)
                        yield self._connection
            except TimeoutError:
                raise Unavailable("PostgreSQL did not answer in time") from None
            except BaseException:
                if self._connection is not None:
                    self._connection.terminate()
                self._connection = None
                raise

    def _news(self, connection: Any, pid: int, _channel: str, told: Any) -> None:
        """Something was told on the channel; what came from here is no news."""
        if pid == connection.get_server_pid():
            return
        if told == _LEFT:
            self._left()
        elif told.isdecimal():
            self._heard(int(told))


async def _roll(connection: Connection) -> Roll:
    nodes = [Node(*row) for row in await connection.fetch(_SQL["nodes"])]
    owners = {row[0]: Owned(row[1], row[2]) for row in await connection.fetch(_SQL["owners"])}
    return Roll(nodes, owners)


def _unheard(*_: Position) -> None:
    return
