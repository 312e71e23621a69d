"""The projection port: tables declared, and a pure function from events to row changes.

How to add one: give it a name of its own, declare its tables, write `project`, and list it in
`projections.engine.BUILT_IN`. It runs `inline` (in the transaction of the write), `async` (behind it, by a
follower with a checkpoint) or `live` (no tables: computed from the log when asked).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from eventstore.decide import Previous
from eventstore.event import Event

Lifecycle = Literal["inline", "async", "live"]
Value = str | int | float | bytes | None
RowKey = tuple[Value, ...]


class Column(msgspec.Struct, frozen=True):
    """One column; `type` is text, integer or bytes."""

    name: str
    type: Literal["text", "integer", "bytes"] = "text"
    required: bool = True


class Table(msgspec.Struct, frozen=True):
    """A table that a projection owns. Its name begins with `quire_`."""

    name: str
    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    indexes: tuple[tuple[str, ...], ...] = ()
    summed: bool = False
    """Its rows are only added to (`Rows.add`), never upserted or deleted; its columns are integers."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """One event, and the last event of the same resource before it."""

    event: Event
    previous: Previous | None

    @property
    def was_live(self) -> bool:
        return self.previous is not None and self.previous.live


class Rows:
    """What is to become of the rows: the last word for each key, ready for one statement per table."""

    __slots__ = ("deletes", "sums", "upserts", "views")

    def __init__(self) -> None:
        self.upserts: dict[str, dict[RowKey, RowKey]] = {}
        self.deletes: dict[str, set[RowKey]] = {}
        self.sums: dict[str, dict[RowKey, list[int]]] = {}
        self.views: dict[str, bool] = {}

    def upsert(self, table: str, key: RowKey, values: RowKey) -> None:
        """The row of `key` is `values`, in the order of the table's columns."""
        self.deletes.get(table, set()).discard(key)
        self.upserts.setdefault(table, {})[key] = values

    def delete(self, table: str, key: RowKey) -> None:
        """There is no row of `key`."""
        self.upserts.get(table, {}).pop(key, None)
        self.deletes.setdefault(table, set()).add(key)

    def add(self, table: str, key: RowKey, amounts: Sequence[int]) -> None:
        """Add to the columns of `key`'s row, which begins at zeros. For tables that are `summed`."""
        sums = self.sums.setdefault(table, {}).setdefault(key, [0] * len(amounts))
        for index, amount in enumerate(amounts):
            sums[index] += amount

    def view(self, type: str, exists: bool) -> None:
        """The SQL views of a type are there, or are not."""
        self.views[type] = exists


class Projection(Protocol):
    """A name, tables, and what events do to them.

    `project` is pure: for the same changes in the same order it asks for the same rows, however the changes
    are cut into calls. A higher `version` makes the tables anew from the log.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def lifecycle(self) -> Lifecycle: ...
    @property
    def tables(self) -> tuple[Table, ...]: ...

    def project(self, changes: Sequence[Change], rows: Rows) -> None: ...
