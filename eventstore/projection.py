"""The projection port: tables declared, and a pure function from events to row changes.

How to add one: give it a name of its own, declare its tables, write `project`, and list it in
`projections.engine.BUILT_IN`. It runs `inline` (in the transaction of the write), `async` (behind it, by a
follower with a checkpoint) or `live` (no tables: computed from the log when asked). `docs/projections.md` tells more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from eventstore.decide import Previous
from eventstore.event import Event, Position

Lifecycle = Literal["inline", "async", "live"]
OnError = Literal["halt", "park"]
Value = str | int | float | bytes | None
RowKey = tuple[Value, ...]

BESIDE = "__new"


def beside(name: str) -> str:
    """What a projection or one of its tables is called while it is built anew, beside the one that stands."""
    return name + BESIDE


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


class Parked(msgspec.Struct, frozen=True):
    """An event that a projection could not handle and went on without."""

    position: Position
    error: str
    at: str = ""
    """When it was parked, by the storage's clock."""


class Rows:
    """What is to become of the rows: the last word for each key, ready for one statement per table."""

    __slots__ = ("deletes", "new", "sums", "upserts", "views")

    def __init__(self) -> None:
        self.upserts: dict[str, dict[RowKey, RowKey]] = {}
        self.new: dict[str, set[RowKey]] = {}
        """The keys of upserts that should have no row yet."""
        self.deletes: dict[str, set[RowKey]] = {}
        self.sums: dict[str, dict[RowKey, list[int]]] = {}
        self.views: dict[str, bool] = {}

    def upsert(self, table: str, key: RowKey, values: RowKey, *, new: bool = False) -> None:
        """The row of `key` is `values`, in the order of the table's columns.

        `new`: as far as the events tell, there is no such row yet. Many new rows are written sooner; it is no error when
        one is there after all.
        """
        deleted = self.deletes.get(table)
        if deleted and key in deleted:
            deleted.discard(key)
        elif new:
            self.new.setdefault(table, set()).add(key)
        self.upserts.setdefault(table, {})[key] = values

    def delete(self, table: str, key: RowKey) -> None:
        """There is no row of `key`."""
        self.upserts.get(table, {}).pop(key, None)
        self.new.get(table, set()).discard(key)
        self.deletes.setdefault(table, set()).add(key)

    def add(self, table: str, key: RowKey, amounts: Sequence[int]) -> None:
        """Add to the columns of `key`'s row, which begins at zeros. For tables that are `summed`."""
        sums = self.sums.setdefault(table, {}).setdefault(key, [0] * len(amounts))
        for index, amount in enumerate(amounts):
            sums[index] += amount

    def view(self, type: str, exists: bool) -> None:
        """The SQL views of a type are there, or are not. Types that differ only in case share them: the last counts."""
        self.views.pop(type, None)
        self.views[type] = exists

    def overlay(self, later: Rows) -> None:
        """Let later upserts, deletes and views be the last word; later sums are left out."""
        for table, deletes in later.deletes.items():
            for key in deletes:
                self.delete(table, key)
        for table, upserts in later.upserts.items():
            for key, values in upserts.items():
                self.upsert(table, key, values)
        for type, exists in later.views.items():
            self.view(type, exists)

    def count(self) -> int:
        """How many rows are written or deleted."""
        return sum(map(len, (*self.upserts.values(), *self.deletes.values(), *self.sums.values())))

    def beside(self) -> Rows:
        """The same for the tables beside; without views, of which there is one of a name."""
        rows = Rows()
        rows.upserts = {beside(table): upserts for table, upserts in self.upserts.items()}
        rows.new = {beside(table): new for table, new in self.new.items()}
        rows.deletes = {beside(table): deletes for table, deletes in self.deletes.items()}
        rows.sums = {beside(table): sums for table, sums in self.sums.items()}
        return rows


class Projection(Protocol):
    """A name, tables, and what events do to them.

    `project` is pure: for the same changes in the same order it asks for the same rows, however the changes
    are cut into calls. The body of a change's `previous` may be missing: do not use it. A higher `version` makes
    the tables anew from the log.

    `on_error` says what becomes of an async projection when `project` raises at an event or the database refuses its
    rows. `halt`: it stops there and tries again. `park`: it goes on without the event, which is tried again when asked,
    after later ones; so each row that it upserts or deletes must belong to one resource, and be made of the events of
    that resource alone.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def lifecycle(self) -> Lifecycle: ...
    @property
    def on_error(self) -> OnError: ...
    @property
    def tables(self) -> tuple[Table, ...]: ...

    def project(self, changes: Sequence[Change], rows: Rows) -> None: ...
