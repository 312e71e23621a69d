"""The projection `current`: which version of each resource is the current one, and how many there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from eventstore.projection import Change, Column, Lifecycle, OnError, Rows, Table

CURRENT = Table(
    "quire_current",
    key=(Column("type"), Column("id")),
    columns=(Column("position", "integer"),),
)
TOTAL = Table(
    "quire_total",
    key=(Column("type"),),
    columns=(Column("live", "integer"), Column("events", "integer")),
    summed=True,
)


class Current:
    """type, id -> position of the live resources; type -> how many live ones and how many events."""

    name = "current"
    version = 1
    on_error: OnError = "halt"
    tables = (CURRENT, TOTAL)

    def __init__(self, lifecycle: Lifecycle = "inline") -> None:
        self.lifecycle = lifecycle

    def project(self, changes: Sequence[Change], rows: Rows) -> None:
        totals: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for change in changes:
            event, was_live = change.event, change.was_live
            live = event.action in ("created", "updated")
            if live:
                rows.upsert(CURRENT.name, (event.type, event.id), (event.position,), new=not was_live)
            elif was_live:
                rows.delete(CURRENT.name, (event.type, event.id))
            total = totals[event.type]
            total[0] += live - was_live
            total[1] += 1
        for type, total in totals.items():
            rows.add(TOTAL.name, (type,), total)
