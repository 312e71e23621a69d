"""`/ready`: whether the server accepts writes, and how what follows the log stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventstore.errors import Unavailable
from eventstore.follower import Lag, lag
from eventstore.membership import Membership
from eventstore.server.call import Answer, Call, answer
from eventstore.server.times import now
from eventstore.store import Store
from projections.engine import Engine

if TYPE_CHECKING:
    from eventstore.delivery.nats import Status
    from eventstore.server.streaming import Streaming


class Health:
    """Answers from the parts that run."""

    def __init__(self, store: Store, engine: Engine, members: Membership, stream: Streaming | None) -> None:
        self._store = store
        self._members = members
        self._engine = engine
        self._stream = stream

    async def ready(self, call: Call) -> Answer:
        """`GET /ready`: 503 when writes are refused, with the reason. What follows behind and halted refuses none."""
        call.only("GET", "HEAD")
        told: dict[str, Any] = {
            "status": "pass",
            "position": self._store.position,
            "node": self._members.id,
            "nodes": self._members.roll.nodes,
        }
        try:
            told |= await self._standings()
            problem = told.pop("problem") or self._store.trouble
        except Unavailable as away:
            problem = str(away)
        if problem:
            told |= {"status": "fail", "output": problem}
        return answer(told, 503 if problem else 200, fhir=False)

    async def _standings(self) -> dict[str, Any]:
        """How the storage and who follows the log stand. Raises Unavailable when the storage cannot be reached."""
        pressure = await self._store.log.pressure()
        told: dict[str, Any] = {
            "problem": pressure.problem,
            "walBytes": pressure.wal_bytes,
            "projections": await self._engine.standings(now()),
            "rebuilds": self._engine.building,
        }
        if self._stream is not None:
            status = await self._stream.status()
            behind = await lag(self._store.log, status.position, now())
            told["publisher"] = _publisher(status, behind)
        return told


def _publisher(status: Status, behind: Lag) -> dict[str, Any]:
    told: dict[str, Any] = {
        "state": status.state,
        "stream": status.stream,
        "generation": status.generation,
        "position": status.position,
        "lagEvents": behind.events,
        "lagSeconds": round(behind.seconds, 3),
        "owner": status.owner,
    }
    if status.reason:
        told["output"] = status.reason
    if status.remedy:
        told["remedy"] = status.remedy
    if status.differs_at is not None:
        told["differsAt"] = status.differs_at
    return told
