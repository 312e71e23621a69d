"""A projection that follows behind the writes: sums, so that an event left out or taken twice shows."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.projection import Change, Column, Lifecycle, OnError, Rows, Table

TALLY = Table(
    "quire_test_tally",
    key=(Column("type"),),
    columns=(Column("events", "integer"), Column("positions", "integer")),
    summed=True,
)


class Tally:
    """type -> how many events, and the sum of their positions."""

    name = "test_tally"
    version = 1
    lifecycle: Lifecycle = "async"
    on_error: OnError = "halt"
    tables = (TALLY,)

    def project(self, changes: Sequence[Change], rows: Rows) -> None:
        for change in changes:
            rows.add(TALLY.name, (change.event.type,), (1, change.event.position))
