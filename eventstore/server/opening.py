"""Opens a store that may write: log, projections and writer, without a server and what only a server needs."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from eventstore.feed import Feed
from eventstore.log.opening import open_log
from eventstore.membership import Membership
from eventstore.projection import Projection
from eventstore.server.settings import Settings
from eventstore.server.times import now
from eventstore.store import Store
from eventstore.writer import Writer
from projections.engine import BUILT_IN, Engine

GARBAGE_OBJECTS = 20_000
"""So many more objects than before, and the youngest are looked at for cycles."""
SWITCH_SECONDS = 0.001
"""How long a thread waits for Python's lock before it is handed over: commits wait for it (decision 0028)."""


@asynccontextmanager
async def open_store(
    settings: Settings, projections: Sequence[Projection] = BUILT_IN
) -> AsyncIterator[Store]:
    """A store that may write: the log, its projections and its writer, ended in order. Raises Unavailable, Invalid."""
    async with running(settings, projections) as (store, _, _):
        yield store


@asynccontextmanager
async def running(
    settings: Settings, projections: Sequence[Projection], url: str = ""
) -> AsyncIterator[tuple[Store, Engine, Membership]]:
    """The parts of a store that may write; a URL is where others find this process. Raises Unavailable, Invalid."""
    opened = await open_log(settings.place, fhir_version=settings.fhir_version)
    try:
        members = Membership(opened, url)
        engine = Engine(opened, members, projections)
        feed = Feed(opened)
        writer = Writer(opened, engine.project, now, feed.committed, url)
        try:
            await members.start(lambda: writer.tip.position)
            await engine.start(writer.reached)
            await writer.start()
            yield Store(opened, writer, feed), engine, members
        finally:
            feed.close()
            await writer.stop()
            await engine.stop()
            await members.stop()
    finally:
        await opened.close()


def tune() -> None:
    """What is there now stays, and is not looked at for garbage; requests leave few cycles behind."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)
