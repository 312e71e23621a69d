"""Projections for tests: one that counts colours behind the log, and fails at what it is told to fail at.

Run as a program it is a server with that projection: `--port`, `--data`, `--db`, `--nats`, `--version`, `--on-error`, `--wrong`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import Sequence
from pathlib import Path

from eventstore.projection import Change, Column, Lifecycle, OnError, Rows, Table
from eventstore.server.app import serving
from eventstore.server.settings import NatsSettings, Settings
from projections.engine import BUILT_IN

PAINTED = Table(
    "quire_test_painted",
    (Column("type"), Column("id")),
    (Column("colour"), Column("position", "integer")),
    (("colour",),),
)
COLOUR = Table(
    "quire_test_colour",
    (Column("name"),),
    (Column("painted", "integer"), Column("events", "integer")),
    summed=True,
)


class Colours:
    """Type, id -> the colour of each resource that has one; colour -> how often it was painted.

    `wrong` colours raise in `project`; the colour `null` is one that the database refuses.
    """

    name = "colours"
    tables = (PAINTED, COLOUR)

    def __init__(
        self,
        on_error: OnError = "halt",
        wrong: tuple[str, ...] = (),
        version: int = 1,
        lifecycle: Lifecycle = "async",
    ) -> None:
        self.on_error = on_error
        self.version = version
        self.lifecycle = lifecycle
        self.wrong = wrong

    def project(self, changes: Sequence[Change], rows: Rows) -> None:
        for change in changes:
            event = change.event
            colour = None if event.data is None else json.loads(event.data).get("colour")
            if colour in self.wrong:
                raise ValueError(f"{colour} is no colour")
            if colour is None:
                rows.delete(PAINTED.name, (event.type, event.id))
            else:
                stored = None if colour == "null" else colour
                rows.upsert(PAINTED.name, (event.type, event.id), (stored, event.position))
                rows.add(COLOUR.name, (colour,), (1, 1))


async def _serve(settings: Settings, colours: Colours) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serving(settings, [*BUILT_IN, colours]):
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--db", default="")
    parser.add_argument("--nats", default="off")
    parser.add_argument("--version", type=int, default=1)
    parser.add_argument("--on-error", default="park")
    parser.add_argument("--wrong", nargs="*", default=())
    asked = parser.parse_args()
    colours = Colours(asked.on_error, tuple(asked.wrong), asked.version)
    settings = Settings(port=asked.port, data=asked.data, db=asked.db, nats=NatsSettings(asked.nats))
    asyncio.run(_serve(settings, colours))


if __name__ == "__main__":
    main()
