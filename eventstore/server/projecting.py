"""`POST /$rebuild` and `POST /$unpark`: projections built anew, and their parked events tried again, while writes go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from eventstore.errors import Conflict, Forbidden, QuireError
from eventstore.event import Position
from eventstore.projection import Projection
from eventstore.server.call import Answer, Call, Streamed, answer
from eventstore.server.settings import is_loopback
from projections.engine import Engine, named
from projections.rebuild import Rebuilt

TELL_SECONDS = 0.2
"""How often a rebuild tells how far it is."""
LINES_TYPE = "application/x-ndjson"

_log = logging.getLogger("quire.projections")


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line about a rebuild: how far it is, or what came of it."""

    projection: str
    position: Position = 0
    tip: Position = 0
    built: Rebuilt | None = None
    error: str = ""
    """Why it was not built; the tables that stood are as they were."""


class Projecting:
    """Answers from the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def rebuild(self, call: Call) -> Streamed:
        """Build projections anew, one after the other; ends with who asked."""
        wanted = self._wanted(call)
        for one in wanted:
            if one.name in self._engine.building:
                raise Conflict(f"{one.name} is being built anew already")
        lines = rebuilding(self._engine, wanted, lambda: call.store.feed.closed)
        return Streamed(LINES_TYPE, _encoded(lines))

    async def unpark(self, call: Call) -> Answer:
        """Hand the parked events of projections to them again."""
        wanted = self._wanted(call)
        if not call.query.get("projection"):
            wanted = [one for one in wanted if one.lifecycle == "async"]
        return answer([await self._engine.unpark(one) for one in wanted], fhir=False)

    def _wanted(self, call: Call) -> list[Projection]:
        """Those that the URL names, or all. Raises NotFound, and Forbidden for who is on another machine."""
        call.only("POST")
        refuse_strangers(call.request.remote)
        names = [name for name in call.query.get("projection", "").split(",") if name]
        return named(self._engine.projections, names)


def refuse_strangers(address: str | None) -> None:
    """Raise Forbidden for who is not on this machine."""
    if not is_loopback(address or ""):
        raise Forbidden("projections are worked on from the server's own machine only")


async def _encoded(lines: AsyncIterator[Told]) -> AsyncIterator[bytes]:
    try:
        async for line in lines:
            yield msgspec.json.encode(line) + b"\n"
    finally:
        await lines.aclose()  # type: ignore[attr-defined]


async def rebuilding(
    engine: Engine, wanted: Sequence[Projection], stopping: Callable[[], bool]
) -> AsyncIterator[Told]:
    """Build these anew, telling how far it is; what fails is told, and the next one begun."""
    for projection in wanted:
        line = Told(projection.name)

        def note(position: Position, tip: Position, name: str = projection.name) -> None:
            nonlocal line
            line = Told(name, position, tip)

        task = asyncio.create_task(engine.rebuild(projection, note))
        try:
            while not (await asyncio.wait((task,), timeout=TELL_SECONDS))[0]:
                if stopping():
                    yield msgspec.structs.replace(line, error="the server stops")
                    return
                yield line
            yield _outcome(projection.name, task)
        finally:
            task.cancel()
            await asyncio.wait((task,))


def _outcome(name: str, task: asyncio.Task[Rebuilt]) -> Told:
    error = task.exception()
    if error is None:
        built = task.result()
        return Told(name, built.position, built.position, built)
    if not isinstance(error, QuireError):
        _log.error("a projection was not built anew", exc_info=error, extra={"projection": name})
        return Told(name, error=f"{type(error).__name__}: {error}")
    return Told(name, error=str(error))
