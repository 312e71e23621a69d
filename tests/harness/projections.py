"""Projections for tests: one that counts colours behind the log, and fails at what it is told to fail at."""

from __future__ import annotations

import json
from collections.abc import Sequence

from eventstore.projection import Change, Column, Lifecycle, OnError, Rows, Table

PAINTED = Table(
    "quire_test_painted",
    (Column("type"), Column("id")),
    (Column("colour"), Column("position", "integer")),
    (("colour",),),
)
COLOUR = Table(
    "quire_test_colour", (Column("name"),), (Column("painted", "integer"), Column("events", "integer"))
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
