"""The projection engine: inline in the write's transaction, async behind it, and building what is missing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from eventstore.errors import Conflict, NotFound, Unavailable
from eventstore.event import Position
from eventstore.follower import BACK_OFF_SECONDS_MAX, Follower, Reached, Standing, Stuck, lag
from eventstore.log.base import KEPT_INLINE, EventLog
from eventstore.membership import BEAT_SECONDS, Lease, Membership, ended
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


def inline_rows(changes: Sequence[Change], projections: Sequence[Projection] = BUILT_IN) -> Rows:
    """What those of the projections that are inline want written with these events. Pure."""
    rows = Rows()
    for projection in projections:
        if projection.lifecycle == "inline":
            projection.project(changes, rows)
    return rows


FOLLOWER = "projection "
REBUILD = "rebuild "
"""What a node owns while it follows for a projection, or builds it anew: this, and the projection's name."""


class Engine:
    """Runs projections over one log. `start` comes before the writer's first append.

    Of all nodes, one at a time follows for an async projection, and one at a time builds a projection anew.
    """

    def __init__(
        self, log: EventLog, members: Membership, projections: Sequence[Projection] = BUILT_IN
    ) -> None:
        self.projections = projections
        self.followers: dict[str, Follower] = {}
        self.building: dict[str, Position] = {}
        """How far the tables are that are being built anew, by this node."""
        self._log = log
        self._members = members
        self._inline = [one for one in projections if one.lifecycle == "inline"]
        self._leases: dict[str, Lease] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._rebuilt = asyncio.Event()

    async def start(self, reached: Reached) -> None:
        """Make the tables, build what the log has and the inline ones have not, and follow for the async ones.

        An async projection of another version is built anew in the background. What another node is building is left to
        it. Raises Unavailable when an inline one cannot be built: the tables of the version before stand as they were.
        """
        await self._log.discard(
            but=[name.removeprefix(REBUILD) for name in self._members.roll.owners if name.startswith(REBUILD)]
        )
        for projection in self._inline:
            await self._complete(projection)
        behind = [one for one in self.projections if one.lifecycle == "async"]
        if behind:
            self._leases = {one.name: self._members.lease(FOLLOWER + one.name) for one in behind}
            await self._members.beat()
        for projection in behind:
            await self._follow(projection, reached)

    async def stop(self) -> None:
        for task in self._tasks:
            await ended(task)
        for follower in self.followers.values():
            follower.state = "stopped"

    def project(self, changes: Sequence[Change]) -> Rows:
        """What the inline projections want written with these events. Pure."""
        return inline_rows(changes, self._inline)

    async def rebuild(self, projection: Projection, progress: Progress = untold) -> Rebuilt:
        """Build a projection anew while everything goes on, and follow for it when that waited for it.

        Raises Stuck as `rebuild` does, Conflict when that is under way here or on another node.
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
            async with self._members.owning(REBUILD + projection.name):
                built = await rebuild(self._log, projection, told)
        finally:
            del self.building[projection.name]
        _log.info("a projection was built anew", extra=msgspec.structs.asdict(built))
        self._rebuilt.set()
        self._rebuilt = asyncio.Event()
        return built

    async def unpark(self, projection: Projection) -> Unparked:
        """Hand its parked events to a projection again. Raises Conflict for one that has none to hand them to."""
        if projection.lifecycle != "async":
            raise Conflict(f"{projection.name} is kept with every write: it parks nothing")
        return await unpark(self._log, projection)

    async def standings(self, now: str) -> list[Standing]:
        """How the followers stand; what they have parked since is counted too."""
        found = [self._state(one) for one in self.followers.values()]
        parked = await counts(self._log) if found else {}
        return [await self._standing(one, parked.get(one.name, 0), now) for one in found]

    def _state(self, one: Follower) -> Standing:
        owner = self._leases[one.name].owner
        return Standing(one.name, one.state, one.position, 0, 0.0, 0, one.halted_at, one.reason, owner)

    async def _standing(self, one: Standing, parked: int, now: str) -> Standing:
        position = one.position
        if one.state == "elsewhere":
            position = max(0, await self._log.checkpoint(one.name) or 0)
        events, seconds = await lag(self._log, position, now)
        told = {
            "position": position, "lag_events": events, "lag_seconds": round(seconds, 3), "parked": parked
        }  # fmt: skip
        return msgspec.structs.replace(one, **told)

    async def _complete(self, projection: Projection) -> None:
        """Bring an inline projection to the tip; by this node nothing is appended meanwhile."""
        name = projection.name
        declared = (name, projection.version, projection.tables)
        while (position := await self._log.declare(*declared)) != KEPT_INLINE:
            if position == (await self._log.tip()).position:
                await self._log.advance(name, position, KEPT_INLINE, Rows())
                return
            try:
                await self.rebuild(projection)
            except Conflict:  # another node builds it
                await asyncio.sleep(BEAT_SECONDS)
            except Stuck as stuck:
                raise Unavailable(
                    f"the projection {name}, version {projection.version}, cannot be built: {stuck}; its tables are as "
                    "the version before left them, which can go on with them"
                ) from stuck

    async def _follow(self, projection: Projection, reached: Reached) -> None:
        name, keeper = projection.name, Keeper(self._log, projection)
        position = await self._log.declare(name, projection.version, projection.tables)
        follower = Follower(self._log, name, keeper.checkpoint, keeper.handle, reached)
        self.followers[name] = follower
        self._leases[name].where = lambda: follower.position
        if position is None or position == KEPT_INLINE:
            follower.position = max(0, await keeper.checkpoint())
            follower.tell("building")
        else:
            follower.position = position
        self._tasks.append(asyncio.create_task(self._keep(projection, follower, self._leases[name])))

    async def _keep(self, projection: Projection, follower: Follower, lease: Lease) -> None:
        """Follow as long as this node owns the projection; while another does, wait."""
        while True:
            if not lease.held:
                follower.tell("elsewhere")
            await lease.until(held=True)
            await lease.during(self._built_and_followed(projection, follower))

    async def _built_and_followed(self, projection: Projection, follower: Follower) -> None:
        await self._built(projection, follower)
        await follower.run()

    async def _built(self, projection: Projection, follower: Follower) -> None:
        """Build what is of another version. At an event that it cannot handle, somebody must mend it and rebuild."""
        declared, stuck = (projection.name, projection.version, projection.tables), False
        while True:
            rebuilt = self._rebuilt
            try:
                if await self._log.declare(*declared) not in (None, KEPT_INLINE):
                    return
                if not stuck:
                    await self.rebuild(projection)
                    continue
            except Stuck as error:
                stuck = True
                reason = f"version {projection.version} cannot be built: {error.reason}"
                follower.tell("halted", reason, error.position)
            except Conflict:
                follower.tell("building")
            except Exception as error:
                follower.wait(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(BACK_OFF_SECONDS_MAX):
                    await rebuilt.wait()
