"""`/ready`: whether the server accepts writes, and how what follows the log stands."""

from __future__ import annotations

from typing import Any

from eventstore.server.call import Answer, Call, answer
from eventstore.server.times import now
from eventstore.store import Store
from projections.engine import Engine


class Health:
    """Answers from the parts that run."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine

    async def ready(self, call: Call) -> Answer:
        """`GET /ready`: 503 when writes are refused, with the reason. A projection that halted refuses none."""
        call.only("GET", "HEAD")
        pressure = await self._store.log.pressure()
        problem = pressure.problem or self._store.trouble
        told: dict[str, Any] = {
            "status": "fail" if problem else "pass",
            "position": self._store.position,
            "walBytes": pressure.wal_bytes,
        }
        if problem:
            told["output"] = problem
        told["projections"] = await self._engine.standings(now())
        told["rebuilds"] = self._engine.building
        return answer(told, 503 if problem else 200, fhir=False)
