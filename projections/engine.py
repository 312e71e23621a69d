"""The projection engine: inline in the write's transaction, async behind it, and building what is missing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

import msgspec

from eventstore.errors import Conflict, NotFound, Unavailable
from eventstore.event import Position
from eventstore.follower import BACK_OFF_SECONDS_MAX, Follower, Reached, Standing, Stuck, lag
from eventstore.log.base import KEPT_INLINE, EventLog
from eventstore.projection import Change, Projection, Rows
from projections.current import Current
from projections.keeper import Keeper
from projections.parked import Unparked, counts, unpark
from projections.rebuild import Progress, Rebuilt, rebuild, untold
from projections.views import Views

BUILT_IN: tuple[Projection, ...] = (Current(), Views())

_log = logging.getLogger("quire.projections")


def named(projections: Sequence[Projection], names: Sequence[str]) -> list[Projection]:
    """Those of these names; all when there are none. Raises NotFound."""
    known = {one.name: one for one in projections if one.lifecycle != "live"}
    for name in names:
        if name not in known:
            raise NotFound(f"there is no projection {name[:80]}; there are {', '.join(sorted(known))}")
    return [known[name] for name in names or known]


class Engine:
    """Runs projections over one log. `start` comes before the writer's first append."""

    def __init__(self, log: EventLog, projections: Sequence[Projection] = BUILT_IN) -> None:
        self.projections = projections
        self.followers: dict[str, Follower] = {}
        self.building: dict[str, Position] = {}
        """How far the tables are that are being built anew."""
        self._log = log
        self._inline = [one for one in projections if one.lifecycle == "inline"]
        self._builds: list[asyncio.Task[None]] = []

    async def start(self, reached: Reached) -> None:
        """Make the tables, build what the log has and the inline ones have not, and follow for the async ones.

        An async projection of another version is built anew in the background. Raises Unavailable when an inline one
        cannot be built: the tables of the version before stand as they were.
        """
        await self._log.discard()
        for projection in self._inline:
            await self._complete(projection)
        for projection in self.projections:
            if projection.lifecycle == "async":
                await self._follow(projection, reached)

    async def stop(self) -> None:
        for task in self._builds:
            task.cancel()
        if self._builds:
            await asyncio.wait(self._builds)
        for follower in self.followers.values():
            await follower.stop()

    def project(self, changes: Sequence[Change]) -> Rows:
        """What the inline projections want written with these events. Pure."""
        rows = Rows()
        for projection in self._inline:
            projection.project(changes, rows)
        return rows

    async def rebuild(self, projection: Projection, progress: Progress = untold) -> Rebuilt:
        """Build a projection anew while everything goes on, and follow for it when that waited for it.

        Raises Stuck as `rebuild` does, Conflict when that is under way.
        """
        if projection.name in self.building:
            raise Conflict(
                f"{projection.name} is being built anew, and is at {self.building[projection.name]}"
            )

        def told(position: Position, tip: Position) -> None:
            self.building[projection.name] = position
            progress(position, tip)

        self.building[projection.name] = 0
        try:
            built = await rebuild(self._log, projection, told)
        finally:
            del self.building[projection.name]
        _log.info("a projection was built anew", extra=msgspec.structs.asdict(built))
        if (follower := self.followers.get(projection.name)) is not None:
            follower.start()
        return built

    async def unpark(self, projection: Projection) -> Unparked:
        """Hand its parked events to a projection again. Raises Conflict for one that has none to hand them to."""
        if projection.lifecycle != "async":
            raise Conflict(f"{projection.name} is kept with every write: it parks nothing")
        return await unpark(self._log, projection)

    async def standings(self, now: str) -> list[Standing]:
        """How the followers stand; what they have parked since is counted too."""
        found = [
            Standing(one.name, one.state, one.position, 0, 0.0, 0, one.halted_at, one.reason)
            for one in self.followers.values()
        ]
        parked = await counts(self._log) if found else {}
        return [await self._counted(one, parked, now) for one in found]

    async def _counted(self, one: Standing, parked: Mapping[str, int], now: str) -> Standing:
        events, seconds = await lag(self._log, one.position, now)
        numbers = {"lag_events": events, "lag_seconds": round(seconds, 3), "parked": parked.get(one.name, 0)}
        return msgspec.structs.replace(one, **numbers)

    async def _complete(self, projection: Projection) -> None:
        """Bring an inline projection to the tip; nothing is appended meanwhile."""
        name = projection.name
        position = await self._log.declare(name, projection.version, projection.tables)
        if position == KEPT_INLINE:
            return
        if position == (await self._log.tip()).position:
            await self._log.advance(name, position, KEPT_INLINE, Rows())
            return
        try:
            await rebuild(self._log, projection)
        except Stuck as stuck:
            raise Unavailable(
                f"the projection {name}, version {projection.version}, cannot be built: {stuck}; its tables are as the "
                "version before left them, which can go on with them"
            ) from stuck

    async def _follow(self, projection: Projection, reached: Reached) -> None:
        name, keeper = projection.name, Keeper(self._log, projection)
        position = await self._log.declare(name, projection.version, projection.tables)
        follower = Follower(self._log, name, keeper.checkpoint, keeper.handle, reached)
        self.followers[name] = follower
        if position is not None and position != KEPT_INLINE:
            follower.position = position
            follower.start()
            return
        follower.position = max(0, await keeper.checkpoint())
        follower.tell("building")
        self._builds.append(asyncio.create_task(self._build(projection, follower)))

    async def _build(self, projection: Projection, follower: Follower) -> None:
        """Build what is of another version. At an event that it cannot handle, somebody must mend it and start again."""
        declared = (projection.name, projection.version, projection.tables)
        while await self._log.declare(*declared) in (None, KEPT_INLINE):
            try:
                await self.rebuild(projection)
            except Stuck as stuck:
                follower.tell(
                    "halted", f"version {projection.version} cannot be built: {stuck.reason}", stuck.position
                )
                return
            except Conflict:
                return
            except Exception as error:
                follower.wait(error)
                await asyncio.sleep(BACK_OFF_SECONDS_MAX)
