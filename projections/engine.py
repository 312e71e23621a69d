"""The projection engine: inline in the write's transaction, async behind it, and building what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.decide import Previous
from eventstore.errors import Conflict
from eventstore.event import Event, Position
from eventstore.follower import Follower, Reached
from eventstore.log.base import KEPT_INLINE, EventLog
from eventstore.projection import Change, Projection, Rows
from projections.current import Current
from projections.views import Views

BUILT_IN: tuple[Projection, ...] = (Current(), Views())


class Engine:
    """Runs projections over one log. `start` comes before the writer's first append."""

    def __init__(self, log: EventLog, projections: Sequence[Projection] = BUILT_IN) -> None:
        self._log = log
        self._inline = [one for one in projections if one.lifecycle == "inline"]
        self._async = [one for one in projections if one.lifecycle == "async"]
        self.followers: list[Follower] = []

    async def start(self, reached: Reached) -> None:
        """Make the tables, build what the log has and they have not, and follow for the async ones."""
        for projection in self._inline:
            await self._build(projection, reached)
        for projection in self._async:
            position = await self._log.declare(projection.name, projection.version, projection.tables)
            follower = self._follower(projection, position, reached)
            self.followers.append(follower)
            follower.start()

    async def stop(self) -> None:
        for follower in self.followers:
            await follower.stop()

    def project(self, changes: Sequence[Change]) -> Rows:
        """What the inline projections want written with these events. Pure."""
        rows = Rows()
        for projection in self._inline:
            projection.project(changes, rows)
        return rows

    async def _build(self, projection: Projection, reached: Reached) -> None:
        """Bring an inline projection to the tip; nothing is appended meanwhile."""
        position = await self._log.declare(projection.name, projection.version, projection.tables)
        if position == KEPT_INLINE:
            return
        follower = self._follower(projection, position, reached)
        await follower.catch_up()
        await self._log.advance(projection.name, follower.position, KEPT_INLINE, Rows())

    def _follower(self, projection: Projection, position: Position, reached: Reached) -> Follower:
        async def handle(after: Position, events: Sequence[Event]) -> Position:
            until = events[-1].position
            rows = Rows()
            projection.project(await self.changes(events), rows)
            if not await self._log.advance(projection.name, after, until, rows):
                raise Conflict(
                    f"the checkpoint of {projection.name} is no longer at {after}: somebody moved it"
                )
            return until

        return Follower(self._log, projection.name, position, handle, reached)

    async def changes(self, events: Sequence[Event]) -> list[Change]:
        """The events, each with the one before it of the same resource."""
        first = {(event.type, event.id): event.position for event in reversed(events)}
        before = await self._log.before([(*key, position) for key, position in first.items()], bodies=False)
        last: dict[tuple[str, str], Previous | None] = {
            key: before.get(position) for key, position in first.items()
        }
        changes = []
        for event in events:
            key = (event.type, event.id)
            changes.append(Change(event, last[key]))
            last[key] = Previous(event.position, event.action, event.at, event.data)
        return changes
